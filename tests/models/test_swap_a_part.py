"""Parts of the models are swapped by naming another class: by the page, and with all that diffusers does to a model."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest
import torch
from torch import nn

import gaia2
from gaia2 import FlowMatchScheduler, Gaia2Pipeline, VideoTokenizer, WorldModel
from gaia2.models.video_decoder import VideoDecoder
from gaia2.models.video_encoder import VideoEncoder
from gaia2.nn import Attention, SpaceTimeBlock, SpatialBlock, WorldModelBlock
from tests.models.test_world_model_diffusers import inputs, lora, run
from tests.tiny import TOKENIZER, WORLD_MODEL, perturb, tokenizer, world_model

PAGE = Path(__file__).parents[2] / "docs" / "swap_a_part.md"


class HalvedAttention(Attention):
    """Ours, halved: what it changes can be told exactly."""

    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor:
        return super().forward(*args, **kwargs) / 2


class HalvedBlock(WorldModelBlock):
    """Halves in time only."""

    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes, temporal_attention=HalvedAttention)


@gaia2.register
class HalvedWorldModel(WorldModel):
    attention_class = HalvedAttention


class TimeHalvedWorldModel(WorldModel):
    block_class = HalvedBlock


class HalvedEncoder(VideoEncoder):
    attention_class = HalvedAttention


class HalvedDecoder(VideoDecoder):
    attention_class = HalvedAttention


@gaia2.register
class HalvedTokenizer(VideoTokenizer):
    encoder_class = HalvedEncoder
    decoder_class = HalvedDecoder


def halved(model: nn.Module, names: tuple[str, ...]) -> nn.Module:
    """The model with the outputs of some attentions halved, by their weights."""
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, Attention) and name.rpartition(".")[2] in names:
                module.to_out[0].weight.div_(2)
                module.to_out[0].bias.div_(2)
    return model


def of_same_weights(cls: type, model: nn.Module, settings: dict) -> nn.Module:
    made = cls(**settings)
    made.load_state_dict(model.state_dict())
    return made.eval()


EVERY = ("spatial_attention", "temporal_attention", "cross_attention")


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))
    test = doctest.DocTestParser().get_doctest(code, {"__name__": "__main__"}, PAGE.name, str(PAGE), 0)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    results = doctest.DocTestRunner(verbose=False, optionflags=flags).run(test)
    assert results.attempted > 25
    assert results.failed == 0, capsys.readouterr().out


@pytest.mark.parametrize(("cls", "names"), [(HalvedWorldModel, EVERY), (TimeHalvedWorldModel, ("temporal_attention",))])
def test_a_world_models_attention(cls: type[WorldModel], names: tuple[str, ...]) -> None:
    plain = world_model()
    got = run(of_same_weights(cls, plain, WORLD_MODEL))
    assert not torch.allclose(got, run(plain), atol=1e-4)
    torch.testing.assert_close(got, run(halved(plain, names)), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_tokenizers_attention_in_encoder_and_decoder() -> None:
    plain, frames = tokenizer(), torch.linspace(-1, 1, 3 * 16 * 32 * 64).reshape(1, 3, 16, 32, 64).sin()
    perturb(plain)
    mine = of_same_weights(HalvedTokenizer, plain, TOKENIZER)
    assert not torch.allclose(mine(frames).sample, plain(frames).sample, atol=1e-4)
    torch.testing.assert_close(mine(frames).sample, halved(plain, EVERY)(frames).sample, atol=1e-4, rtol=1e-4)


def test_diffusers_is_told_the_blocks_names() -> None:
    assert WorldModel._repeated_blocks == WorldModel._no_split_modules == ["WorldModelBlock"]
    assert TimeHalvedWorldModel._repeated_blocks == TimeHalvedWorldModel._no_split_modules == ["HalvedBlock"]
    assert VideoTokenizer._repeated_blocks == ["SpatialBlock", "SpaceTimeBlock"]
    assert VideoEncoder.block_class is SpatialBlock
    assert VideoDecoder.block_class is SpaceTimeBlock


def test_a_swapped_block_compiles() -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    model = of_same_weights(TimeHalvedWorldModel, world_model(), WORLD_MODEL)
    expected = run(model)
    model.compile_repeated_blocks(fullgraph=True, backend=count)
    torch.testing.assert_close(run(model), expected, atol=1e-5, rtol=1e-5)
    assert len(graphs) == 1
    torch.compiler.reset()


def test_a_swapped_block_is_checkpointed_and_cached() -> None:
    model = of_same_weights(TimeHalvedWorldModel, world_model(), WORLD_MODEL)
    expected = run(model)
    ran: list[str] = []

    def function(block: nn.Module, *args: torch.Tensor) -> torch.Tensor:
        ran.append(type(block.func).__name__)
        return torch.utils.checkpoint.checkpoint(block, *args, use_reentrant=False)

    model.enable_gradient_checkpointing(function)
    velocity = model(**inputs()).sample
    assert ran == ["HalvedBlock"] * 2  # diffusers' own switch, and the function that it was given
    torch.testing.assert_close(velocity.detach(), expected, atol=1e-5, rtol=0)  # another kernel, with gradients
    model.disable_gradient_checkpointing()
    model.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.0))
    with torch.no_grad(), model.cache_context("cond"):
        torch.testing.assert_close(model(**inputs()).sample, expected)


def test_a_swapped_model_takes_lora(tmp_path: Path) -> None:
    model = of_same_weights(HalvedWorldModel, world_model(), WORLD_MODEL)
    plain = run(model)
    model.add_adapter(lora())
    adapted = run(model)
    assert not torch.allclose(adapted, plain, atol=1e-4)
    model.save_lora_adapter(tmp_path)
    model.unload_lora()
    model.load_lora_adapter(tmp_path, prefix=None, use_safetensors=True)
    torch.testing.assert_close(run(model), adapted, atol=1e-6, rtol=0)


def test_it_goes_to_disk_and_back_alone_and_in_a_pipeline(tmp_path: Path) -> None:
    model, vae = of_same_weights(HalvedWorldModel, world_model(), WORLD_MODEL), HalvedTokenizer(**TOKENIZER)
    pipe = Gaia2Pipeline(vae=vae, transformer=model, scheduler=FlowMatchScheduler())
    pipe.save_pretrained(tmp_path)
    for loaded in (
        HalvedWorldModel.from_pretrained(tmp_path, subfolder="transformer"),
        diffusers.AutoModel.from_pretrained(str(tmp_path), subfolder="transformer"),
        Gaia2Pipeline.from_pretrained(tmp_path).transformer,
        diffusers.DiffusionPipeline.from_pretrained(tmp_path).transformer,
    ):
        assert type(loaded) is HalvedWorldModel
        assert torch.equal(run(loaded), run(model))


def test_a_subclass_starts_from_a_checkpoint_of_its_base_and_not_the_other_way(tmp_path: Path) -> None:
    plain = world_model()
    plain.save_pretrained(tmp_path / "plain")
    started = HalvedWorldModel.from_pretrained(tmp_path / "plain")
    torch.testing.assert_close(run(started), run(halved(plain, EVERY)), atol=1e-5, rtol=1e-4)
    started.save_pretrained(tmp_path / "halved")
    for other in (WorldModel, TimeHalvedWorldModel):
        with pytest.raises(ValueError, match=r"expected a checkpoint of this class .*, got one of HalvedWorldModel"):
            other.from_pretrained(tmp_path / "halved")


def test_an_unregistered_class_is_refused_when_a_pipeline_is_saved(tmp_path: Path) -> None:
    pipe = Gaia2Pipeline(vae=tokenizer(), transformer=world_model(), scheduler=FlowMatchScheduler())
    pipe.transformer = TimeHalvedWorldModel(**WORLD_MODEL)
    with pytest.raises(
        ValueError, match=r"transformer: expected a class .* got TimeHalvedWorldModel of .*; put @gaia2.register on it"
    ):
        pipe.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
    pipe.transformer = HalvedWorldModel(**WORLD_MODEL)
    pipe.save_pretrained(tmp_path)
    assert type(Gaia2Pipeline.from_pretrained(tmp_path).transformer) is HalvedWorldModel


def test_a_process_that_lacks_the_class_is_told_so(tmp_path: Path) -> None:
    pipe = Gaia2Pipeline(vae=tokenizer(), transformer=HalvedWorldModel(**WORLD_MODEL), scheduler=FlowMatchScheduler())
    pipe.save_pretrained(tmp_path)
    code = f"from gaia2 import Gaia2Pipeline; Gaia2Pipeline.from_pretrained({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "no attribute 'HalvedWorldModel'" in done.stderr
    assert "once the module that puts @gaia2.register on it is imported" in done.stderr


def test_names_that_are_taken() -> None:
    for name in ("WorldModel", "AutoencoderKL", "HalvedWorldModel"):
        with pytest.raises(ValueError, match=f"{name}: expected a name that no other class has"):
            gaia2.register(type(name, (WorldModel,), {"__module__": "elsewhere"}))
    gaia2.register(HalvedWorldModel)  # once more, as a notebook does
