"""A training that is killed, or told to stop, ends with the same bits as one that is left alone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import finetune_decoder
import pytest
import torch
import train_tokenizer
import train_world_model

from gaia2.data.clip_folder import write_chunk
from gaia2.training.options import TrainingOptions
from tests.ranks import await_ranks, start_ranks
from tests.recipes.runs import kill_often, last_state, last_step, log_lines, run_recipe, same_tree
from tests.tiny import clip, tokenizer

KILLS = int(os.environ.get("GAIA2_KILLS", "1"))
"""How often each training is killed; `make kills` takes more."""
STEPS = 7 + 2 * KILLS
SMALL: dict[str, Any] = dict(
    steps=STEPS, batch_size=2, warmup_steps=2, validation_clips=1, validate_every=10, save_every=2, log_every=1,
    device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    path = tmp_path_factory.mktemp("given")
    write_chunk(path / "clips", 0, [clip(i) for i in range(4)])
    tokenizer().save_pretrained(path / "tokenizer")
    return {"data": path / "clips", "tokenizer": path / "tokenizer"}


def options_of(name: str, given: dict[str, Path], out: Path) -> TrainingOptions:
    if name == "train_world_model":
        return train_world_model.WorldModelRecipe(**SMALL, **given, out=out)
    if name == "train_tokenizer":
        return train_tokenizer.TokenizerRecipe(**SMALL, data=given["data"], out=out, optimizer="muon")
    return finetune_decoder.DecoderRecipe(
        **SMALL, data=given["data"], start_from=given["tokenizer"], out=out, discriminator_channels=2
    )


def assert_same_run(one: Path, other: Path, history: object) -> None:
    states = last_state(one), last_state(other)
    assert states[0]["step"] == STEPS
    for name, value in states[1].items():
        assert same_tree(states[0][name], value), f"{name} differs after {history}"
    assert log_lines(one) == log_lines(other), f"after {history}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "train_world_model",
        pytest.param("train_tokenizer", marks=pytest.mark.long),
        pytest.param("finetune_decoder", marks=pytest.mark.long),
    ],
)
def test_killed_at_random_moments(name: str, given: dict[str, Path], tmp_path: Path) -> None:
    history = kill_often(name, options_of(name, given, tmp_path / "killed"), tmp_path, kills=KILLS)
    straight = tmp_path / "attempts"
    straight.mkdir()
    kill_often(name, options_of(name, given, tmp_path / "straight"), straight, kills=0)
    assert len(history) == KILLS
    assert_same_run(tmp_path / "killed", tmp_path / "straight", history)
    folder = "transformer" if name == "train_world_model" else "tokenizer"
    exports = [(tmp_path / run / folder).glob("*.safetensors") for run in ("killed", "straight")]
    assert len({path.read_bytes() for paths in exports for path in paths}) == 1


@pytest.mark.slow
def test_one_of_two_ranks_is_killed(given: dict[str, Path], tmp_path: Path) -> None:
    history = kill_often(
        "train_world_model", options_of("train_world_model", given, tmp_path / "killed"), tmp_path, kills=KILLS, count=2
    )
    straight = tmp_path / "attempts"
    straight.mkdir()
    kill_often(
        "train_world_model", options_of("train_world_model", given, tmp_path / "straight"), straight, kills=0, count=2
    )
    assert_same_run(tmp_path / "killed", tmp_path / "straight", history)


def test_told_to_stop_it_saves_and_says_how_to_go_on(given: dict[str, Path], tmp_path: Path) -> None:
    name, out = "train_world_model", tmp_path / "out"
    options = options_of(name, given, out)
    (process,) = start_ranks(run_recipe, name, options, count=1, folder=tmp_path)
    while last_step(out) < 3:
        assert process.is_alive(), (tmp_path / "output0").read_text()
        time.sleep(0.005)
    os.kill(process.pid or 0, signal.SIGTERM)
    assert await_ranks([process]) == 0
    assert process.exitcode == 0
    stopped = last_state(out)["step"]
    assert 3 <= stopped < STEPS
    assert last_step(out) == stopped
    said = f"world model: it was told to stop (SIGTERM); {stopped} of {STEPS} steps are done and saved in {out}"
    assert said in (tmp_path / "output0").read_text()
    assert not (out / "transformer").exists()
    for run in ("out", "straight"):
        (tmp_path / f"attempts-{run}").mkdir()
        kill_often(name, options_of(name, given, tmp_path / run), tmp_path / f"attempts-{run}", kills=0)
    assert_same_run(out, tmp_path / "straight", "SIGTERM")


def test_the_time_is_over(given: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.recipes.tiny_preset import PRESET

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gaia2.models.presets.mini", lambda: PRESET)
        recipe = train_world_model.WorldModelRecipe(**SMALL, **given, out=tmp_path / "out", minutes=1e-9)
        with pytest.raises(SystemExit) as stopped:
            train_world_model.train(recipe)
    assert stopped.value.code == 0
    assert f"minutes are over; 0 of {STEPS} steps are done" in capsys.readouterr().out
    assert torch.get_num_threads() >= 1
