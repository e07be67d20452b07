"""The plan of a run against what torch counts, what is kept in memory, and what a reader would work out by hand."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import finetune
import finetune_decoder
import pytest
import torch
import train_tokenizer
import train_world_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gaia2.conditioning.collate import scene_conditioning
from gaia2.data.clip_folder import write_chunk
from gaia2.models import presets
from gaia2.models.video_discriminator import VideoDiscriminator
from gaia2.models.world_model import WorldModel
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.scene import Scene
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.training.model_costs import world_model_cost
from gaia2.training.plan import GPUS, Workload
from tests.recipes.runs import last_state
from tests.recipes.tiny_preset import PRESET
from tests.tiny import clip, tokenizer, world_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def paper() -> Workload:
    recipe = train_world_model.WorldModelRecipe.of(
        "paper", tokenizer=Path("t"), out=Path("o"), plan=True, plan_ranks=256
    )
    return train_world_model.plan(recipe)


def test_counts_of_the_mini_preset_are_torchs_own() -> None:
    preset = presets.mini()
    model = WorldModel(**preset.world_model)
    scene = Scene.create(rig="surround", num_frames=24, speed=3.0)
    given = scene_conditioning(scene)
    x = torch.randn(1, 3, 5, 4, 8, 64)
    masks = dict(known_mask=torch.zeros(1, 3, 5, 4, 8, dtype=torch.bool), camera_mask=torch.ones(1, 5).bool())
    with FlopCounterMode(display=False) as forward:
        out = model(x, torch.rand(1), given, **masks).sample
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    cost = world_model_cost(preset, cameras=5)
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert cost.tokens == 480
    counted = forward.get_total_flops() + backward.get_total_flops()
    assert cost.forward.flops == pytest.approx(forward.get_total_flops(), rel=0.02)
    assert cost.forward.flops + cost.forward.backward_flops == pytest.approx(counted, rel=0.02)
    assert cost.forward.block_flops < cost.forward.flops


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Clips, models, and what a step of every training needs; trainings do not validate."""
    monkeypatch.setattr(presets, "mini", lambda: PRESET)
    write_chunk(tmp_path / "clips", 0, [clip(i, 16, "front") for i in range(4)])
    tokenizer().save_pretrained(tmp_path / "tokenizer")
    parts = dict(vae=tokenizer(), transformer=world_model(**PRESET.world_model), scheduler=FlowMatchScheduler())
    Gaia2Pipeline(**parts).save_pretrained(tmp_path / "model")
    for name in ("train_tokenizer.report", "finetune_decoder.report", "train_world_model.validate"):
        monkeypatch.setattr(name, lambda *_: None)
    monkeypatch.setattr("finetune.write_report", lambda *_: None)
    return dict(
        data=tmp_path / "clips", out=tmp_path / "out", batch_size=2, warmup_steps=1, validation_clips=1, save_every=1,
        precision="fp32", device="cpu",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["train_tokenizer", "finetune_decoder", "finetune lora", "finetune full"])
def test_counts_of_every_recipe_are_those_of_its_step(name: str, tiny: dict[str, Any], tmp_path: Path) -> None:
    """The whole second step of the training, under torch's own counter, and the weights that its optimizers have."""
    recipe: Any
    if name == "train_tokenizer":
        module, recipe = train_tokenizer, train_tokenizer.TokenizerRecipe(**tiny, steps=1)
    elif name == "finetune_decoder":
        module = finetune_decoder
        options = dict(start_from=tmp_path / "tokenizer", discriminator_channels=4, steps=1)
        recipe = finetune_decoder.DecoderRecipe(**tiny, **options)
    else:
        module = finetune
        options = dict(model=str(tmp_path / "model"), method=name.split()[1], lora_rank=2, steps=1)
        recipe = finetune.FinetuneRecipe(**tiny, **options)
    module.train(recipe)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module.train(dataclasses.replace(recipe, steps=2))
    plan = module.plan(recipe)
    assert plan.step_flops("none") == pytest.approx(counter.get_total_flops(), rel=0.02)
    saved = last_state(tiny["out"])
    assert plan.parameters == sum(value.numel() for key, value in saved.items() if key.endswith("/exp_avg"))
    assert plan.averaged == sum(value.numel() for key, value in saved.items() if "/average/" in key)


def test_the_decoder_stage_of_the_paper() -> None:
    options = dict(data=Path("d"), out=Path("o"), start_from=Path("t"))
    plan = finetune_decoder.plan(finetune_decoder.DecoderRecipe.of("paper", **options, plan_ranks=128))
    whole = train_tokenizer.plan(
        train_tokenizer.TokenizerRecipe.of("paper", data=Path("d"), out=Path("o"), plan_ranks=128)
    )
    assert plan.averaged + plan.frozen == whole.parameters  # decoder and encoder
    assert 0.6 < plan.averaged / whole.parameters < 0.8  # 200M of 285M (paper §2.1.3)
    with torch.device("meta"):
        judge = sum(parameter.numel() for parameter in VideoDiscriminator().parameters())
    assert plan.parameters == plan.averaged + judge
    assert plan.checkpoint_bytes == 12 * plan.parameters + 4 * plan.averaged + 4 * plan.frozen
    assert plan.memory("full")["weights (fp32)"] == pytest.approx(4 * (plan.parameters + plan.frozen) / 128)
    assert plan.second is not None
    kept = [one.block_bytes + one.outside_bytes for one in (plan.cost, plan.second)]
    assert plan.memory("none")["activations"] == max(kept)  # one pass after the other
    frozen = train_tokenizer.plan(
        train_tokenizer.TokenizerRecipe.of("paper", **{**options, "start_from": None}, freeze_encoder=True)
    )
    assert (frozen.parameters, frozen.frozen) == (plan.averaged, plan.frozen)
    assert "not counted            the networks of the losses, lpips: leave room for them" in plan.table()


def test_the_papers_model_by_hand(paper: Workload) -> None:
    """The share of the blocks from their shapes: 20 c^2 weights and a modulation, and three attentions."""
    c, tokens, times, cells, k = 4096, 12_600, 6, 5 * 14 * 30, 29
    products = 2 * tokens * 18 * c**2 + 2 * times * 5 * k * 2 * c**2 + 2 * 2 * times * 2 * c**2
    attentions = 4 * tokens * c * (cells + times + k)
    assert paper.cost.block_flops == pytest.approx(22 * (products + attentions), rel=0.005)
    assert paper.parameters == 8_447_910_464
    assert paper.tokens == tokens
    assert paper.latent_bytes == pytest.approx(12_600 * 64 * 4 * 3600 / (48 / 25))


def test_memory_and_time_follow_from_the_division(paper: Workload) -> None:
    state = {name: value for name, value in paper.memory("full").items() if "fp32" in name}
    assert sum(state.values()) == pytest.approx(paper.parameters * 20 / 256)
    both = dataclasses.replace(paper, shard_ranks=8)
    assert both.memory("full")["average (fp32)"] == pytest.approx(32 * paper.memory("full")["average (fp32)"])
    assert both.exchange() < paper.exchange()  # shards inside a machine
    assert paper.floor("none") == pytest.approx(3 * 256 * paper.cost.flops / (256 * 989e12), rel=0.005)
    assert paper.floor("none") < paper.floor("selective") < paper.floor("full") < 4 / 3 * paper.floor("none")
    memories = [sum(paper.memory(mode).values()) for mode in ("none", "selective", "full")]
    assert memories == sorted(memories, reverse=True)
    assert (paper.samples, paper.micro_batches) == (1, 1)
    accumulated = dataclasses.replace(paper, ranks=64, shard_ranks=64, micro_batch_size=2)
    assert (accumulated.samples, accumulated.micro_batches) == (2, 2)
    shared = dataclasses.replace(paper, context_ranks=2, batch_size=128)
    assert shared.memory("full")["activations"] == pytest.approx(paper.memory("full")["activations"] / 2)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (dict(ranks=1, shard_ranks=1), r"it needs .* GB a rank, and a h100 has 72.0 GB free; .* ranks that share"),
        (dict(checkpointing="none"), r"--activation-checkpointing full"),
        (dict(ranks=32, shard_ranks=32, checkpointing="selective"), r"--micro-batch-size 1"),
    ],
)
def test_what_cannot_fit_is_refused_with_a_remedy(changes: dict[str, Any], match: str, paper: Workload) -> None:
    refusal = dataclasses.replace(paper, **changes).refusal()
    assert refusal is not None
    assert re.search(match, refusal), refusal
    assert paper.refusal() is None


@pytest.mark.parametrize(("ranks", "status"), [(256, 0), (1, 2)])
def test_on_the_command_line(ranks: int, status: int) -> None:
    """In a process of its own, with its time and memory."""
    code = (
        "import resource, runpy, sys\n"
        f"sys.argv = ['train_world_model.py', '--preset', 'paper', '--plan', '--plan-ranks', '{ranks}']\n"
        f"sys.path.insert(0, {str(ROOT / 'recipes')!r})\n"
        "try:\n    runpy.run_path(sys.path[0] + '/train_world_model.py', run_name='__main__')\n"
        "finally:\n"
        "    usage = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    print('used', usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == status, done.stderr
    assert f"world model on {ranks} x h100" in done.stdout
    assert ("it fits" in done.stdout) == (status == 0)
    memory, seconds = map(float, done.stdout.split("used ")[1].split())
    assert memory < 2e9
    assert seconds < 20


def test_a_tokenizer_is_planned_too_and_numbers_that_do_not_divide_are_refused() -> None:
    options = dict(data=Path("d"), out=Path("o"), plan_ranks=128)
    plan = train_tokenizer.plan(train_tokenizer.TokenizerRecipe.of("paper", **options))
    assert plan.parameters == 281_699_264 or plan.parameters > 280_000_000
    assert plan.latent_bytes == 0
    with pytest.raises(ValueError, match="batch_size: expected a multiple of the 128 ranks that share it, got 100"):
        train_tokenizer.plan(train_tokenizer.TokenizerRecipe.of("paper", batch_size=100, **options))
    with pytest.raises(ValueError, match="shard_ranks: expected a divisor of the 128 ranks, got 3"):
        train_tokenizer.plan(train_tokenizer.TokenizerRecipe.of("paper", shard_ranks=3, **options))
    assert set(GPUS) == {"a100-40", "a100-80", "h100", "h200", "b200"}
