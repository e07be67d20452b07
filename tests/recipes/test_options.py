"""The presets of the recipes against the paper, number by number, and what `--help` says of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import finetune_decoder
import pytest
import train_tokenizer
import train_world_model

from gaia2.training.options import TrainingOptions

TOKENIZER = dict(
    steps=300_000, batch_size=128, image_size=(448, 960), num_frames=24, optimizer="adamw", learning_rate=1e-4,
    final_learning_rate=1e-5, warmup_steps=2_500, cooldown_steps=5_000, weight_decay=0.1, max_grad_norm=1.0,
    ema_decay=0.9999, l1_weight=0.2, l2_weight=2.0, perceptual_weight=0.1, perceptual_network="lpips", dino_weight=0.1,
    kl_weight=1e-6, seam_weight=0.0,
)  # fmt: skip
DECODER = dict(
    steps=20_000, batch_size=128, image_size=(448, 960), num_frames=24, discriminator_learning_rate=1e-5,
    discriminator_channels=64, adversarial_weight=0.1, weight_decay=0.1, max_grad_norm=1.0, ema_decay=0.9999,
    l1_weight=0.2, l2_weight=2.0, perceptual_weight=0.1, perceptual_network="lpips", seam_weight=0.0,
)  # fmt: skip
WORLD_MODEL = dict(
    steps=460_000, batch_size=256, optimizer="adamw", learning_rate=5e-5, final_learning_rate=6.5e-6,
    cooldown_steps=None, warmup_steps=2_500, weight_decay=0.1, max_grad_norm=1.0, ema_decay=0.9999,
    condition_dropout=0.8, all_dropout=0.1, camera_dropout=0.1, agent_feature_dropout=0.3, context_share=0.2,
    inpainting_share=0.1, near_noise_share=0.2, validation_clips=1024, lone_camera_share=0.0, cameras=(),
    weighted=False, hidden_maps=0.0, context_noise=0.0,
)  # fmt: skip
CASES = [
    (train_tokenizer.TokenizerRecipe, TOKENIZER),
    (finetune_decoder.DecoderRecipe, DECODER),
    (train_world_model.WorldModelRecipe, WORLD_MODEL),
]


def required(cls: type[TrainingOptions]) -> list[str]:
    return [word for name in cls.REQUIRED for word in (f"--{name.replace('_', '-')}", "x")]


@pytest.mark.parametrize(("cls", "paper"), CASES)
def test_the_paper_preset_has_the_papers_numbers(cls: type[TrainingOptions], paper: dict[str, Any]) -> None:
    recipe = cls.from_command_line("", ["--preset", "paper", *required(cls)])
    assert {name: getattr(recipe, name) for name in paper} == paper
    given = cls.from_command_line("", [*required(cls), "--batch-size", "64", "--preset", "paper"])
    assert (given.batch_size, given.steps) == (64, paper["steps"])
    assert cls.from_command_line("", required(cls)).preset == "mini"


@pytest.mark.parametrize(("cls", "paper"), CASES)
def test_help_says_the_papers_value(
    cls: type[TrainingOptions], paper: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cls.from_command_line("", ["--help"])
    text = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    for name, value in paper.items():
        option = f" --{name.replace('_', '-')} "
        negated = f" --{name.replace('_', '-')}, "
        place = text.find(option) if option in text else text.find(negated)
        assert place >= 0, option
        said = text[place : text.find(" --", place + 5 + len(negated))]
        wanted = "none given" if value == () else " ".join(map(str, value)) if isinstance(value, tuple) else value
        forms = {f"paper: {wanted}", f"paper: {value:,}" if isinstance(value, int) else f"paper: {value}"}
        assert any(form in said for form in forms), (name, said)


def test_the_plan_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = train_world_model.WorldModelRecipe.from_command_line("", ["--plan"])
    assert recipe.plan
    assert not Path("none").exists()
