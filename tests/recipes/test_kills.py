"""A training that is killed, or told to stop, ends with the same bits as one that is left alone."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import encode_latents
import finetune
import finetune_decoder
import pytest
import torch
import train_tokenizer
import train_world_model
from safetensors.torch import load_file

from gaia2.data.clip_folder import write_chunk
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.training.options import TrainingOptions
from tests.ranks import await_ranks, run_ranks, start_ranks
from tests.recipes.runs import kill_often, last_state, last_step, log_lines, run_recipe, same_tree
from tests.recipes.tiny_preset import PRESET
from tests.tiny import clip, tokenizer, world_model

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
    pipe = Gaia2Pipeline(vae=tokenizer(), transformer=world_model(**PRESET.world_model), scheduler=FlowMatchScheduler())
    pipe.save_pretrained(path / "pipeline")
    return {"data": path / "clips", "tokenizer": path / "tokenizer", "pipeline": path / "pipeline"}


def options_of(name: str, given: dict[str, Path], out: Path) -> TrainingOptions:
    if name == "train_world_model":
        return train_world_model.WorldModelRecipe(**SMALL, data=given["data"], tokenizer=given["tokenizer"], out=out)
    if name == "finetune":
        return finetune.FinetuneRecipe(**SMALL, data=given["data"], model=str(given["pipeline"]), lora_rank=2, out=out)
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
        pytest.param("finetune", marks=pytest.mark.long),
    ],
)
def test_killed_at_random_moments(name: str, given: dict[str, Path], tmp_path: Path) -> None:
    history = kill_often(name, options_of(name, given, tmp_path / "killed"), tmp_path, kills=KILLS)
    straight = tmp_path / "attempts"
    straight.mkdir()
    kill_often(name, options_of(name, given, tmp_path / "straight"), straight, kills=0)
    assert len(history) == KILLS
    assert_same_run(tmp_path / "killed", tmp_path / "straight", history)
    folder = {"train_world_model": "transformer", "finetune": "lora"}.get(name, "tokenizer")
    exports = [
        {path.name: load_file(path) for path in (tmp_path / run / folder).glob("*.safetensors")}
        for run in ("killed", "straight")
    ]
    assert exports[0]
    assert same_tree(*exports)


def encode_in(rank: int, options: encode_latents.EncodeRecipe) -> None:
    encode_latents.encode(options)


@pytest.mark.slow
@pytest.mark.long
def test_encoding_is_killed_at_random_moments(given: dict[str, Path], tmp_path: Path) -> None:
    for number in range(2 * KILLS + 2):
        write_chunk(tmp_path / "clips", number, [clip(number)])
    options = [
        encode_latents.EncodeRecipe(
            data=tmp_path / "clips", tokenizer=given["tokenizer"], out=tmp_path / run, device="cpu"
        )
        for run in ("killed", "straight")
    ]
    run_ranks(encode_in, options[1], count=1)
    for number in range(KILLS):
        (tmp_path / f"attempt-{number}").mkdir()
        there = len(list((tmp_path / "killed").glob("*.json")))
        (process,) = start_ranks(encode_in, options[0], count=1, folder=tmp_path / f"attempt-{number}")
        while len(list((tmp_path / "killed").glob("*.json"))) <= there and process.is_alive():
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.05))
        process.kill()
        process.join()
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("*.tar")}
    run_ranks(encode_in, options[0], count=1)
    made = sorted((tmp_path / "straight").iterdir())
    assert len(made) == 2 * (2 * KILLS + 2) + 1
    for path in made:
        assert (tmp_path / "killed" / path.name).read_bytes() == path.read_bytes()
    whole = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns == stamp]
    assert len(whole) >= KILLS  # what was whole is not made again


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


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=[pytest.mark.slow, pytest.mark.long])])
def test_told_to_stop_it_saves_and_says_how_to_go_on(count: int, given: dict[str, Path], tmp_path: Path) -> None:
    """Told to one of the ranks, all of them stop after the same step."""
    name, out = "train_world_model", tmp_path / "out"
    options = options_of(name, given, out)
    processes = start_ranks(run_recipe, name, options, count=count, folder=tmp_path)
    while last_step(out) < 3:
        assert processes[0].is_alive(), (tmp_path / "output0").read_text()
        time.sleep(0.005)
    os.kill(processes[-1].pid or 0, signal.SIGTERM)
    assert await_ranks(processes) == 0
    assert [process.exitcode for process in processes] == [0] * count
    stopped = last_state(out)["step"]
    assert 3 <= stopped < STEPS
    assert last_step(out) == stopped
    reason = "it was told to stop (SIGTERM)" if count == 1 else "another rank was told to stop"
    said = f"world model: {reason}; {stopped} of {STEPS} steps are done and saved in {out}"
    assert said in (tmp_path / "output0").read_text()
    assert not (out / "transformer").exists()
    for run in ("out", "straight"):
        (tmp_path / f"attempts-{run}").mkdir()
        kill_often(name, options_of(name, given, tmp_path / run), tmp_path / f"attempts-{run}", kills=0, count=count)
    assert_same_run(out, tmp_path / "straight", "SIGTERM")


def test_the_time_is_over(given: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gaia2.models.presets.mini", lambda: PRESET)
        recipe = train_world_model.WorldModelRecipe(
            **SMALL, data=given["data"], tokenizer=given["tokenizer"], out=tmp_path / "out", minutes=1e-9
        )
        with pytest.raises(SystemExit) as stopped:
            train_world_model.train(recipe)
    assert stopped.value.code == 0
    assert f"minutes are over; 0 of {STEPS} steps are done" in capsys.readouterr().out
    assert torch.get_num_threads() >= 1
