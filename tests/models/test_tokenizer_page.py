"""The page on the tokenizer: its examples run, and its table is that of the models."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from gaia2.models import presets
from gaia2.models.video_discriminator import VideoDiscriminator
from gaia2.models.video_tokenizer import VideoTokenizer

PAGE = Path(__file__).parents[2] / "docs" / "tokenizer.md"


def test_examples_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))
    test = doctest.DocTestParser().get_doctest(code, {}, PAGE.name, str(PAGE), 0)
    results = doctest.DocTestRunner(verbose=False).run(test)
    assert results.attempted > 20
    assert results.failed == 0, capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"drive.mp4", "figure3.png"}


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize(("column", "preset", "channels"), [(1, presets.mini(), 16), (2, presets.paper(), 64)])
def test_the_table_counts_the_parameters(column: int, preset: presets.Preset, channels: int) -> None:
    rows = [line.strip("|").replace("*", "").split("|") for line in PAGE.read_text().splitlines() if line[:1] == "|"]
    table = {cells[0].strip(): cells[column].strip() for cells in rows if len(cells) > column}
    with torch.device("meta"):
        tokenizer = VideoTokenizer(**preset.tokenizer)
        discriminator = VideoDiscriminator(base_channels=channels)
    encoder, decoder = tokenizer.encoder, tokenizer.decoder
    upsamplings = (decoder.first_upsample, decoder.second_upsample, decoder.last_upsample)
    expected = {
        "encoder: convolutions": count(encoder.patch_conv, encoder.middle_conv, encoder.last_conv),
        "encoder: spatial blocks": count(encoder.blocks),
        "encoder: norm and head": count(encoder.norm_out, encoder.to_moments),
        "encoder": count(encoder),
        "decoder: projection and norm": count(decoder.from_latents, decoder.norm_out),
        "decoder: depth-to-space convolutions": count(*upsamplings),
        "decoder: space-time blocks": count(decoder.first_blocks, decoder.second_blocks),
        "decoder": count(decoder),
        "discriminator": count(discriminator),
        "numbers of frames for one of the latents": int(tokenizer.compression_ratio),
    }
    assert {name: int(table[name].replace(",", "")) for name in expected} == expected
