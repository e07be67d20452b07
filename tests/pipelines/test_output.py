from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gaia2.pipelines.labels import project_agents
from gaia2.pipelines.output import Gaia2PipelineOutput, to_output
from gaia2.scene import Scene
from gaia2.video.files import read_video
from tests.pipelines.helpers import pipeline, scene, with_agents


def output(kind: str) -> Gaia2PipelineOutput:
    scenes = [with_agents(scene(8)), scene(8, weather="snow")]
    scenes = [s.replace(rig=s.rig.fit((32, 64))) for s in scenes]
    frames = torch.rand(2, 8, 3, 3, 32, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Gaia2PipelineOutput(frames=to_output(frames, kind), scenes=scenes)


def test_every_kind_of_frames_gives_the_same_pixels() -> None:
    expected = output("np").pixels(1)
    assert expected.dtype == np.uint8
    assert expected.shape == (8, 3, 32, 64, 3)
    np.testing.assert_array_equal(expected, np.round(output("np").frames[1] * 255).astype(np.uint8))
    for kind in ("pt", "pil"):
        np.testing.assert_array_equal(output(kind).pixels(1), expected)


def test_boxes_are_the_labels_of_the_scene() -> None:
    made = output("np")
    np.testing.assert_array_equal(made.boxes[0], project_agents(made.scenes[0]))
    assert made.boxes[0].shape == (8, 3, 2, 13)
    assert made.boxes[1].shape == (8, 3, 0, 13)
    assert made.frame_rate() == pytest.approx(10.0)
    assert made.camera_names == ("front", "front_left", "front_right")
    assert made.timestamps.shape == (2, 8, 3)


def test_overlay_draws_on_the_boxes_and_nowhere_else() -> None:
    made = output("np")
    changed = (made.overlay(0) != made.pixels(0)).any(axis=-1)
    x1, y1, x2, y2 = np.rint(made.boxes[0][3, 0, 0, :4] * (64, 32, 64, 32)).astype(int)
    assert changed[3, 0, y1, x1:x2].mean() > 0.9
    np.testing.assert_array_equal(made.overlay(1), made.pixels(1))


def test_videos_and_samples(tmp_path: Path) -> None:
    made = output("pt")
    made.save_video(tmp_path / "all.mp4", 0, boxes=True, scale=2)
    video, rate = read_video(tmp_path / "all.mp4")
    assert video.shape == made.mosaic(0, scale=2).shape
    assert rate == pytest.approx(10.0)
    folder = made.save_sample(tmp_path / "sample", 1)
    assert Scene.load(folder / "scene.json") == made.scenes[1]
    assert len(list(folder.glob("*.mp4"))) == 3


def test_latents_are_no_video() -> None:
    made = pipeline()(scene(8), num_inference_steps=1, output_type="latent")
    with pytest.raises(
        ValueError, match=r'frames: expected video .* which are latents; generate with output_type="np"'
    ):
        made.pixels()


@pytest.mark.parametrize("wanted", [False, True])
def test_latents_come_on_request(wanted: bool) -> None:
    pipe = pipeline()
    arguments: dict[str, Any] = dict(num_inference_steps=1, generator=torch.Generator().manual_seed(0))
    made = pipe(scene(8), output_latents=wanted, **arguments)
    if not wanted:
        assert made.latents is None
        return
    frames = (pipe.decode_latents(made.latents) + 1) / 2
    np.testing.assert_allclose(frames.detach().permute(0, 1, 2, 4, 5, 3), made.frames, atol=1e-5)


@pytest.mark.parametrize("kind", ["np", "pt", "pil"])
def test_a_notebook_plays_it_and_a_terminal_says_what_it_is(kind: str, tmp_path: Path) -> None:
    made = output(kind)
    assert len(repr(made)) < 200
    assert "cameras=(front, front_left, front_right), 10 frames/s" in repr(made)
    html = made._repr_html_()
    assert html is not None
    sources = re.findall(r'src="data:video/mp4;base64,([^"]+)"', html)
    assert len(sources) == 2
    for index, source in enumerate(sources):
        (tmp_path / "video.mp4").write_bytes(base64.b64decode(source))
        frames, rate = read_video(tmp_path / "video.mp4")
        expected = made.mosaic(index)
        assert frames.shape[:1] == expected.shape[:1]
        assert rate == pytest.approx(10.0)
        height, width = expected.shape[1:3]
        assert np.abs(frames[:, :height, :width].mean(axis=(1, 2, 3)) - expected.mean(axis=(1, 2, 3))).max() < 6


def test_latents_are_named_and_not_played() -> None:
    latents = torch.zeros(1, 2, 3, 2, 4, 4)
    made = Gaia2PipelineOutput(frames=latents, scenes=[scene(8)], latents=latents)
    assert "frames=(1, 2, 3, 2, 4, 4)" in repr(made)
    assert "latents=(1, 2, 3, 2, 4, 4)" in repr(made)
    assert made._repr_html_() is None
