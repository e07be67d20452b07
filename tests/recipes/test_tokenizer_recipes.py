"""The two trainings of the tokenizer, on tiny models: every option, and what they do when they are killed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import finetune_decoder
import numpy as np
import pytest
import torch
import train_tokenizer
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

from gaia2._checkpoint import load_checkpoint
from gaia2.data.clip_folder import write_chunk
from gaia2.models import presets
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.tokenizer_losses import TokenizerLosses
from gaia2.video.files import write_video
from tests.recipes.runs import last_state
from tests.recipes.tiny_preset import PRESET
from tests.tiny import TOKENIZER, clip, tokenizer

SMALL: dict[str, Any] = dict(
    steps=4, batch_size=2, warmup_steps=2, validation_clips=1, validate_every=3, save_every=2, device="cpu"
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(presets, "mini", lambda: PRESET)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order have other roundings
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    write_chunk(path, 0, [clip(i) for i in range(4)])
    return path


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained")
    tokenizer(latents_mean=[0.1, 0.2, 0.3, 0.4]).save_pretrained(path)
    return path


def scalars(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "scalars.jsonl").read_text().splitlines()]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return VideoTokenizer.from_pretrained(path).state_dict()


def test_all_terms_are_trained_and_logged_each_on_its_own(clips: Path, dino: Path, tmp_path: Path) -> None:
    drive = np.random.default_rng(0).integers(0, 256, (40, 40, 80, 3), dtype=np.uint8)
    write_video(tmp_path / "drive.mp4", drive, frame_rate=10.0)
    out = tmp_path / "out"
    recipe = train_tokenizer.TokenizerRecipe(
        **SMALL | dict(steps=10, validate_every=5),
        data=clips,
        out=out,
        videos=(tmp_path / "drive.mp4",),
        held_out_frames=12,
        num_frames=8,
        image_size=(16, 32),
        perceptual_weight=0.1,
        perceptual_frames=2,
        dino_weight=0.1,
        dino_network=str(dino),
        activation_checkpointing="full",
    )
    assert train_tokenizer.train(recipe) == out / "tokenizer"
    training = [line for line in scalars(out) if "loss" in line]
    assert [line["step"] for line in training] == [10]
    terms = ("l1", "l2", "perceptual", "dino", "kl")
    assert training[0]["loss"] == pytest.approx(sum(training[0][name] for name in terms))
    validation = [line for line in scalars(out) if "validation_psnr" in line]
    assert [line["step"] for line in validation] == [5, 10]
    for name in ("ssim", "sharpness", "psnr_videos", "ssim_videos", "sharpness_videos", "seams_videos"):
        assert np.isfinite(validation[0][f"validation_{name}"])
    pictures = sorted(path.name for path in (out / "pictures").iterdir())
    assert pictures == [
        "clips-000005.png", "clips-000010.png", "clips_videos-000005.png", "clips_videos-000010.png",
    ]  # fmt: skip
    assert Image.open(out / "pictures" / "clips-000010.png").size == (32, 3 * 16)  # one clip of one latent
    saved = last_state(out)
    assert saved["tokenizer/weights/dino_head.weight"].shape == (8, 4)
    assert not [name for name in saved if "network" in name]


def type_command(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setattr(sys, "argv", words.split())


def test_the_paper_preset_has_the_papers_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    type_command(monkeypatch, "train_tokenizer.py --preset paper --data d --out o --batch-size 64")
    recipe = train_tokenizer.TokenizerRecipe.from_command_line("")
    expected = dict(
        data=Path("d"), out=Path("o"), preset="paper", batch_size=64, steps=300_000, optimizer="adamw",
        learning_rate=1e-4, final_learning_rate=1e-5, warmup_steps=2_500, cooldown_steps=5_000, weight_decay=0.1,
        max_grad_norm=1.0, ema_decay=0.9999, l1_weight=0.2, l2_weight=2.0, perceptual_weight=0.1,
        perceptual_network="lpips", perceptual_frames=None, dino_weight=0.1, dino_network="facebook/dinov2-large",
        kl_weight=1e-6, image_size=(448, 960), num_frames=24,
    )  # fmt: skip
    assert {name: getattr(recipe, name) for name in expected} == expected
    assert train_tokenizer.TokenizerRecipe.of("paper", data=Path("d"), out=Path("o")).batch_size == 128

    type_command(monkeypatch, "finetune_decoder.py --start-from t --data d --out o --preset paper")
    decoder = finetune_decoder.DecoderRecipe.from_command_line("")
    expected = dict(
        start_from=Path("t"), steps=20_000, batch_size=128, discriminator_learning_rate=1e-5, adversarial_weight=0.1,
        discriminator_channels=64, l1_weight=0.2, l2_weight=2.0, perceptual_weight=0.1, ema_decay=0.9999,
        image_size=(448, 960), num_frames=24,
    )  # fmt: skip
    assert {name: getattr(decoder, name) for name in expected} == expected


def test_the_default_is_the_mini_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    type_command(monkeypatch, "train_tokenizer.py --data d --out o")
    recipe = train_tokenizer.TokenizerRecipe.from_command_line("")
    assert recipe == train_tokenizer.TokenizerRecipe(data=Path("d"), out=Path("o"))
    assert recipe.perceptual_weight == recipe.dino_weight == 0


def test_required_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    type_command(monkeypatch, "finetune_decoder.py --data d --out o")
    with pytest.raises(SystemExit):
        finetune_decoder.DecoderRecipe.from_command_line("")
    assert "--start-from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (dict(perceptual_weight=0.1, perceptual_network="lpips"), "--perceptual-weight 0 trains without it"),
        (dict(dino_weight=0.1, dino_network="no/such-network"), "--dino-weight 0 trains without it"),
    ],
)
def test_weights_that_cannot_be_had_stop_it_at_once(
    changes: dict, match: str, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ValueError, match=match):
        train_tokenizer.train(train_tokenizer.TokenizerRecipe(**SMALL | changes, data=clips, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_goes_on_with_more_steps_but_not_with_another_model(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    train_tokenizer.train(train_tokenizer.TokenizerRecipe(**SMALL | dict(steps=2), data=clips, out=out))
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    larger = presets.Preset(tokenizer=TOKENIZER | {"dim": 32}, world_model={}, image_size=(32, 64), num_frames=16)
    with monkeypatch.context() as patch:
        patch.setattr(presets, "mini", lambda: larger)
        with pytest.raises(ValueError, match=r"step-0.*2: expected .* model with dim=32, got one with dim=16; go on"):
            train_tokenizer.train(train_tokenizer.TokenizerRecipe(**SMALL, data=clips, out=out))
    with pytest.raises(ValueError, match=r"step-0.*: expected a checkpoint of this training, with .*discriminator"):
        finetune_decoder.train(
            finetune_decoder.DecoderRecipe(**SMALL, data=clips, out=out, start_from=out / "tokenizer")
        )
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == files
    train_tokenizer.train(train_tokenizer.TokenizerRecipe(**SMALL, data=clips, out=out))
    assert last_state(out)["step"] == 4


def test_only_the_decoder_is_finetuned(clips: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    recipe = finetune_decoder.DecoderRecipe(
        **SMALL | dict(steps=10), data=clips, out=out, start_from=trained, discriminator_channels=2,
        perceptual_weight=0.1, perceptual_frames=1,
    )  # fmt: skip
    assert finetune_decoder.train(recipe) == out / "tokenizer"
    before, after = weights(trained), weights(out / "tokenizer")
    for name, value in before.items():
        assert torch.equal(after[name], value) == name.startswith("encoder."), name
    assert list(VideoTokenizer.from_pretrained(out / "tokenizer").config.latents_mean) == [0.1, 0.2, 0.3, 0.4]
    training = [line for line in scalars(out) if "adversarial" in line]
    assert [line["step"] for line in training] == [10]
    assert {"l1", "l2", "perceptual", "discriminator_real", "discriminator_decoded"} < training[0].keys()
    validation = {line["step"]: line for line in scalars(out) if "validation_sharpness" in line}
    assert list(validation) == [0, 3, 6, 9, 10]  # the first is that of the tokenizer as it was
    saved = last_state(out)
    moments = [value for name, value in saved.items() if name.startswith("discriminator/optimizer/")]
    assert any(value.any() for value in moments)
    assert [name for name in saved if name.startswith("discriminator/weights/")]


@pytest.fixture(scope="module")
def important(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips whose left half is important."""
    path, drives = tmp_path_factory.mktemp("important"), [clip(i) for i in range(4)]
    maps = np.zeros((4, 2, 1, 32, 64), np.uint8)
    maps[..., :32] = 255
    write_chunk(path, 0, drives, importance=maps)
    return path


@pytest.mark.parametrize("recipe", ["train_tokenizer", "finetune_decoder"])
def test_important_pixels_count_more(recipe: str, important: Path, trained: Path, tmp_path: Path) -> None:
    """The loss of the first step, counted pixel by pixel."""
    options: dict[str, Any] = SMALL | dict(
        steps=1, batch_size=1, log_every=1, pixel_importance=3.0, precision="fp32", data=important, out=tmp_path,
        start_from=trained,
    )  # fmt: skip
    seen: dict[str, Any] = {}

    class Spy(TokenizerLosses):
        def forward(self, reconstruction: torch.Tensor, frames: torch.Tensor, **others: Any) -> dict[str, torch.Tensor]:
            seen.update(error=(reconstruction - frames).detach().numpy())
            return super().forward(reconstruction, frames, **others)

    with pytest.MonkeyPatch.context() as patch:
        if recipe == "train_tokenizer":
            patch.setattr(train_tokenizer, "TokenizerLosses", Spy)
            train_tokenizer.train(train_tokenizer.TokenizerRecipe(**options))
        else:
            patch.setattr(finetune_decoder, "TokenizerLosses", Spy)
            finetune_decoder.train(finetune_decoder.DecoderRecipe(**options, discriminator_channels=2))
    (line,) = [line for line in scalars(tmp_path) if "l2" in line]
    left, right = ((seen["error"][..., half] ** 2).mean() for half in (slice(32), slice(32, None)))
    assert line["l2"] == pytest.approx(2 * (4 * left + right) / 5, rel=1e-4)


def test_importance_that_clips_do_not_have_is_asked_for_in_vain(clips: Path, tmp_path: Path) -> None:
    recipe = train_tokenizer.TokenizerRecipe(**SMALL, data=clips, out=tmp_path / "out", pixel_importance=1.0)
    with pytest.raises(ValueError, match="expected clips with the importance of their pixels, got none"):
        train_tokenizer.train(recipe)
    assert not (tmp_path / "out").exists()


def test_latents_stay_near_those_it_began_with(clips: Path, trained: Path, tmp_path: Path) -> None:
    def run(name: str, weight: float) -> VideoTokenizer:
        recipe = train_tokenizer.TokenizerRecipe(
            **SMALL | dict(steps=20, log_every=1, ema_decay=0.0, learning_rate=1e-2), data=clips, out=tmp_path / name,
            start_from=trained, drift_weight=weight, precision="fp32",
        )  # fmt: skip
        return VideoTokenizer.from_pretrained(train_tokenizer.train(recipe))

    old = VideoTokenizer.from_pretrained(trained)
    std = torch.as_tensor(old.config.latents_std)
    frames = torch.from_numpy(np.asarray(clip(1).frames)[:, 0]).transpose(0, 1)[None].float() / 127.5 - 1

    def drift(new: VideoTokenizer) -> float:
        with torch.no_grad():
            change = new.encode(frames).latent_dist.mean - old.encode(frames).latent_dist.mean
        return float((change / std.reshape(-1, 1, 1, 1)).square().mean())

    assert drift(run("near", 100.0)) < 0.2 * drift(run("free", 0.0))
    first, *_, last = [line["drift"] for line in scalars(tmp_path / "near") if "drift" in line]
    assert first == pytest.approx(0, abs=1e-9)
    assert last > 1e-6


@pytest.mark.parametrize("changes", [dict(), dict(freeze_encoder=True, start_from=Path("t"))])
def test_drift_from_nothing_is_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match="drift_weight: expected start_from, whose latents it keeps near"):
        train_tokenizer.TokenizerRecipe(data=Path("d"), out=Path("o"), drift_weight=1.0, **changes)


def test_the_adversarial_term_teaches_both_sides(clips: Path, trained: Path, tmp_path: Path) -> None:
    """The discriminator learns to tell, and its gradient reaches the decoder."""

    def run(name: str, weight: float) -> Path:
        recipe = finetune_decoder.DecoderRecipe(
            **SMALL | dict(steps=10, validate_every=99), data=clips, out=tmp_path / name, start_from=trained,
            discriminator_channels=2, discriminator_learning_rate=1e-3, adversarial_weight=weight,
        )  # fmt: skip
        return finetune_decoder.train(recipe)

    with_term, without = weights(run("with", 1.0)), weights(run("without", 0.0))
    assert not torch.equal(with_term["decoder.last_upsample.conv.weight"], without["decoder.last_upsample.conv.weight"])
    told = next(line for line in scalars(tmp_path / "without") if "discriminator_real" in line)
    assert told["discriminator_real"] + told["discriminator_decoded"] < 2 * np.log(2)


def test_a_gradient_that_is_no_number_stops_the_training(
    clips: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = train_tokenizer.TokenizerRecipe(**SMALL | dict(save_every=1), data=clips, out=tmp_path, l2_weight=1e38)
    with pytest.raises(RuntimeError, match=r"step 1: the loss or its gradient is not finite; .*before the first check"):
        train_tokenizer.train(recipe)
    assert not list((tmp_path / "checkpoints").glob("*"))
    (trace,) = (tmp_path / "spoilt").iterdir()
    written = load_checkpoint(trace)
    assert written["batch"]["frames"].shape == (2, 3, 16, 32, 64)
    assert not (tmp_path / "tokenizer").exists()
