"""The scripts of the documentation run as they are written, on the default model, and write their pictures."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gaia2
from gaia2.data.procedural import ProceduralWorld
from gaia2.video.files import read_video

TASKS = Path(__file__).parents[1] / "docs" / "tasks"
SEGMENT = Path(__file__).parents[2] / "shared/data/comma2k19/b0c9d2329ad1606b|2018-08-02--08-34-47/40"


def run(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: str) -> dict:
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    return runpy.run_path(str(TASKS / script), run_name="__main__")


def test_every_task_has_a_script() -> None:
    assert {path.stem for path in TASKS.glob("*.py")} == {"generate", "continue", "inpaint", "edit", "rollout"}


@pytest.mark.parametrize("name", ["generate", "continue", "inpaint", "edit"])
def test_a_task_writes_its_picture(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, f"{name}.py", "--out", str(tmp_path / "new"), "--steps", "2")
    picture = np.asarray(Image.open(tmp_path / "new" / f"task_{name}.png"))
    assert min(picture.shape[:2]) >= 128
    assert picture.std() > 5
    if name == "generate":
        assert len(read_video(tmp_path / "new" / "task_generate.mp4")[0]) == 24


def test_the_rollout_writes_its_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "rollout.py", "--out", str(tmp_path), "--steps", "1", "--seconds", "8.2")
    assert len(read_video(tmp_path / "task_rollout.mp4")[0]) == 80
    assert "ratio" in capsys.readouterr().out


@pytest.mark.skipif(not SEGMENT.is_dir(), reason=f"no genuine comma2k19 segment at {SEGMENT}")
def test_the_rollout_takes_a_genuine_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--segment", str(SEGMENT), "--out", str(tmp_path), "--steps", "1", "--seconds", "4"]
    used = run(monkeypatch, "rollout.py", *arguments)
    assert used["scene"].speed.mean() > 1
    assert used["num_frames"] == 40


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the script holds at its end, in a process of its own: there is no memory of other tests in its measure."""
    if not SEGMENT.is_dir():
        pytest.skip(f"no genuine comma2k19 segment at {SEGMENT}")
    folder = tmp_path_factory.mktemp("minute")
    arguments = [str(TASKS / "rollout.py"), "--segment", str(SEGMENT), "--out", str(folder), "--steps", "20"]
    code = f"""
import json, runpy, sys
sys.argv = {arguments}
held = runpy.run_path(sys.argv[0], run_name="__main__")
numbers = dict(change=held["change"].tolist(), used=held["used"], num_frames=held["num_frames"])
numbers |= {{name: float(held[name]) for name in ("ratio", "ratio_to_latents")}}
open({str(folder / "numbers.json")!r}, "w").write(json.dumps(numbers))
"""
    one_heap = dict(os.environ, MALLOC_ARENA_MAX="1", MALLOC_TRIM_THRESHOLD_="1000000")  # counts what is held, not kept
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=one_heap)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "numbers.json").read_text())


@pytest.mark.slow
def test_a_minute_on_a_genuine_log_is_finite_and_its_memory_flat(minute: dict) -> None:
    assert minute["num_frames"] == 600
    assert np.isfinite(minute["change"]).all()
    used = minute["used"]
    assert max(used) - max(used[: len(used) // 2]) < 16  # MiB


@pytest.mark.slow
def test_where_windows_meet_there_is_no_more_of_a_step_than_between_latents(minute: dict) -> None:
    assert minute["ratio_to_latents"] <= 1.2


@pytest.mark.slow
def test_where_windows_meet_there_is_no_more_change_than_inside(minute: dict) -> None:
    assert minute["ratio"] <= 1.2


@pytest.mark.slow
def test_a_clip_of_the_default_model_takes_less_than_a_minute() -> None:
    """As it is sampled by default, guidance and all."""
    pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
    began = time.perf_counter()
    frames = pipe(gaia2.Scene.create("surround", num_frames=24), generator=torch.Generator().manual_seed(0)).frames
    assert time.perf_counter() - began < 60
    assert frames.shape[:3] == (1, 24, 5)
    assert np.isfinite(frames).all()


def test_inpainting_leaves_pixels_away_from_the_mask_within_the_tokenizers_error() -> None:
    clip = ProceduralWorld(rig="front", image_size=(64, 128), num_frames=24).sample([10_000_003])[0]
    video = np.asarray(clip.frames)
    mask = np.zeros((24, 1, 64, 128), dtype=bool)
    mask[..., 80:] = True
    pipe = gaia2.Gaia2InpaintPipeline.from_pretrained(gaia2.default_model())
    made = pipe(clip.scene, video, mask, num_inference_steps=3, generator=torch.Generator().manual_seed(0)).frames[0]
    rebuilt = gaia2.Gaia2EditPipeline.from_pipe(pipe)(clip.scene, video, strength=0.0).frames[0]
    original = video.transpose(0, 1, 3, 4, 2) / 255
    away = (slice(None), slice(None), slice(None), slice(0, 64))  # a token and more from the mask
    error, tokenizer_error = (np.abs(frames - original)[away].mean() for frames in (made, rebuilt))
    assert error <= 1.1 * tokenizer_error
    assert np.abs(made - rebuilt)[away].mean() <= tokenizer_error
    assert np.abs(made - rebuilt)[..., 96:, :].mean() > 2 * np.abs(made - rebuilt)[away].mean()
