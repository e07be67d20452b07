from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gaia2.pipelines.labels import agent_tubes
from gaia2.pipelines.pipeline_gaia2_inpaint import Gaia2InpaintPipeline
from tests.pipelines.helpers import STEPS, C, H, Spy, W, pipeline, scene, seeded, with_agents
from tests.tiny import clip

FRAMES = clip(0, 16, "surround3").frames


@pytest.fixture(scope="module")
def pipe() -> Gaia2InpaintPipeline:
    return pipeline(Gaia2InpaintPipeline)


def box(*slices: slice) -> np.ndarray:
    mask = np.zeros((16, 3, 32, 64), dtype=bool)
    mask[slices] = True
    return mask


def inpaint(
    pipe: Gaia2InpaintPipeline, mask: Any, given: Any = None, video: Any = FRAMES, **kwargs: Any
) -> torch.Tensor:
    defaults = dict(num_inference_steps=STEPS, generator=seeded(), output_type="latent", sample_posterior=False)
    return pipe(given or scene(), video, mask, **defaults | kwargs).frames


def encoded(pipe: Gaia2InpaintPipeline, frames: np.ndarray = FRAMES) -> torch.Tensor:
    with torch.no_grad():
        return pipe.encode_frames(torch.as_tensor(frames)[None] / 127.5 - 1, sample_posterior=False)


MASKS = {
    "a_pixel": (box(slice(5, 6), slice(1, 2), slice(17, 18), slice(40, 41)), lambda m: m[0, 0, 1, 1, 2:3]),
    "a_camera": (box(slice(None), slice(2, 3)), lambda m: m[0, :, 2]),
    "the_end": (box(slice(8, None)), lambda m: m[0, 1:]),
    "across_cells": (box(slice(7, 9), slice(0, 1), slice(0, 20), slice(10, 20)), lambda m: m[0, :, 0, :, :2]),
}


@pytest.mark.parametrize("name", MASKS)
def test_only_masked_latents_change(pipe: Gaia2InpaintPipeline, spy: Spy, name: str) -> None:
    mask, view = MASKS[name]
    tokens = torch.zeros(1, 2, 3, H, W, dtype=torch.bool)
    view(tokens)[...] = True
    got, start = inpaint(pipe, mask), encoded(pipe)
    assert torch.equal(got[~tokens], start[~tokens])
    assert ((got - start)[tokens].abs().amax(dim=-1) > 0).all()
    for call in spy.calls:
        assert torch.equal(call["known_mask"], ~tokens)
        assert torch.equal(call["latents"][~tokens], start[~tokens])


def test_what_stays_is_a_sample_of_the_videos_latents(pipe: Gaia2InpaintPipeline) -> None:
    """As in the paper, "during both training and inference" (§2.1.1); its noise is drawn after that of the steps."""
    mask, view = MASKS["a_camera"]
    got, generator = inpaint(pipe, mask, sample_posterior=True), seeded()
    pipe.noise((1, 2, 3, H, W, C), generator)
    with torch.no_grad():
        expected = pipe.encode_frames(torch.as_tensor(FRAMES)[None] / 127.5 - 1, generator)
    assert torch.equal(got[:, :, :2], expected[:, :, :2])
    assert (expected - encoded(pipe)).abs().max() > 1e-3
    again = pipe(scene(), FRAMES, mask, num_inference_steps=STEPS, generator=seeded(), output_type="latent").frames
    assert torch.equal(again, got)


def test_unmasked_pixels_away_from_the_border_are_the_reconstruction(pipe: Gaia2InpaintPipeline) -> None:
    """Cameras are encoded and decoded one by one: what is masked in one leaves the others as they are."""
    mask = box(slice(None), slice(2, 3))
    got = pipe(scene(), FRAMES, mask, num_inference_steps=1, generator=seeded(), sample_posterior=False).frames
    with torch.no_grad():
        rebuilt = pipe.vae(torch.as_tensor(FRAMES).permute(1, 2, 0, 3, 4) / 127.5 - 1).sample.clamp(-1, 1) / 2 + 0.5
    expected = rebuilt.permute(2, 0, 3, 4, 1).numpy()
    np.testing.assert_allclose(got[0, :, :2], expected[:, :2], atol=1e-5)
    assert np.abs(got[0, :, 2] - expected[:, 2]).max() > 0.01


def test_masks_may_be_numbers_tensors_and_one_for_each_video(pipe: Gaia2InpaintPipeline) -> None:
    mask = MASKS["a_camera"][0]
    expected = inpaint(pipe, mask)
    for same in (mask.astype(np.uint8), torch.as_tensor(mask), mask[None].astype(float)):
        assert torch.equal(inpaint(pipe, same), expected)
    two = np.stack([mask, MASKS["the_end"][0]])
    batch = inpaint(pipe, two, [scene(), scene()], generator=[seeded(), seeded()])
    torch.testing.assert_close(batch[:1], expected, atol=1e-4, rtol=0)
    assert torch.equal(batch[1, 0], encoded(pipe)[0, 0])


def test_agents_tubes_are_a_mask(pipe: Gaia2InpaintPipeline, spy: Spy) -> None:
    given = with_agents(scene())
    fitted = given.replace(rig=given.rig.fit((32, 64)))
    car, none = agent_tubes(fitted, [7], dilation=3), np.zeros((16, 3, 32, 64), dtype=bool)
    assert torch.equal(inpaint(pipe, None, given, agents=[7], dilation=3), inpaint(pipe, car, given))
    both = inpaint(pipe, MASKS["a_camera"][0], given, agents=[7], dilation=3)
    assert torch.equal(both, inpaint(pipe, car | MASKS["a_camera"][0], given))
    assert torch.equal(inpaint(pipe, none, given, agents=[7], dilation=3), inpaint(pipe, car, given))
    assert not spy.calls[0]["known_mask"].all()


def test_a_long_video_leaves_out_windows_without_a_mask(pipe: Gaia2InpaintPipeline, spy: Spy) -> None:
    frames = clip(1, 56, "front").frames
    mask = np.zeros((56, 1, 32, 64), dtype=bool)
    mask[40:48, :, :16] = True
    got = inpaint(pipe, mask, scene(56, "front"), frames)
    start = encoded(pipe, frames)
    changed = (got != start).flatten(2).any(dim=2)[0]
    assert changed.tolist() == [False] * 5 + [True, False]
    assert len(spy.calls) == STEPS  # of the three windows, one


def test_the_noise_of_a_later_window_is_in_its_place(pipe: Gaia2InpaintPipeline, spy: Spy) -> None:
    frames = clip(1, 40, "front").frames
    mask = np.zeros((40, 1, 32, 64), dtype=bool)
    mask[:, :, 16:] = True
    noise = torch.randn(1, 5, 1, H, W, C, generator=seeded())
    got = inpaint(pipe, mask, scene(40, "front"), frames, latents=noise, num_context_latents=1)
    second = spy.calls[STEPS]["latents"]
    assert torch.equal(second[:, 0], got[:, 2])
    assert torch.equal(second[:, 1:, :, 1], noise[:, 3:, :, 1])
    assert torch.equal(second[:, 1:, :, 0], encoded(pipe, frames)[:, 3:, :, 0])


def test_several_videos_of_one_scene(pipe: Gaia2InpaintPipeline) -> None:
    mask = MASKS["a_camera"][0]
    got = inpaint(pipe, mask, num_videos_per_scene=2, generator=[seeded(3), seeded(4)])
    for index, seed in enumerate((3, 4)):
        alone = inpaint(pipe, mask, generator=seeded(seed))
        torch.testing.assert_close(got[index : index + 1], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (dict(mask=box(slice(0, 0))), "mask: expected one that covers a part .* covers nothing of sample 0; check its"),
        (dict(mask=box(slice(None))), "mask: .* covers everything of sample 0; generate with Gaia2Pipeline instead"),
        (dict(mask=None), "mask: expected a mask, track ids as agents, or both, got neither"),
        (dict(mask=box()[:8]), r"mask: expected \(b=1, tv=16, n=3, hv=32, wv=64\), got \(1, 8, 3, 32, 64\); give one"),
        (dict(mask=np.full((16, 3, 32, 64), 0.5)), "mask: expected booleans, or 0 .* got values from 0.5 to 0.5"),
        (dict(mask=None, agents=[7]), r"agents: expected track ids of the scene, \[\], got \[7\]"),
        (dict(video=clip(0, 24, "surround3").frames), "video: expected 16 frames, one for each of the scene's timest"),
        (dict(video=FRAMES[:8]), "video: expected 16 frames, one for each of the scene's timestamps, got 8; cut"),
        (
            dict(video=FRAMES[:, :2]),
            r"video: expected \(b=1, tv, n=3, c=3, hv=32, wv=64\), got \(1, 16, 2, 3, 32, 64\)",
        ),
        (dict(guidance_scale=-2.0), "guidance_scale: expected a number from 0 to 1000, got -2.0"),
        (dict(latents=torch.zeros(1, 2, 3, H, W, C + 1)), r"latents: expected \(b=1, .* c=4\), got"),
    ],
)
def test_bad_input_is_refused_before_the_first_step(
    pipe: Gaia2InpaintPipeline, spy: Spy, arguments: dict[str, Any], match: str
) -> None:
    defaults = dict(scene=scene(), video=FRAMES, mask=MASKS["a_camera"][0], num_inference_steps=STEPS)
    with pytest.raises(ValueError, match=match):
        pipe(**defaults | arguments)
    assert spy.calls == []
