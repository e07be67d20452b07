"""Long videos: streaming, the treatment of context, and what bounds the memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from gaia2.pipelines.guidance import Guidance
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.pipelines.rollout import Rollout, Window, windows
from gaia2.pipelines.sampling import Sampling
from gaia2.schedulers.flow_match import FlowMatchScheduler
from tests.pipelines.helpers import STEPS, C, H, Spy, W, pipeline, scene, seeded
from tests.tiny import clip


@pytest.fixture(scope="module")
def pipe() -> Gaia2Pipeline:
    return pipeline()


@pytest.fixture
def spy(pipe: Gaia2Pipeline, monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(pipe, monkeypatch)


@pytest.mark.parametrize("overlap", [1, 2])
@pytest.mark.parametrize("context", [0, 8])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_stream_is_the_video_in_pieces(pipe: Gaia2Pipeline, overlap: int, context: int, batch: int) -> None:
    scenes = [scene(56, "front", speed=float(speed)) for speed in range(batch)]

    def arguments(kind: str) -> dict[str, Any]:
        return dict(
            num_inference_steps=STEPS,
            num_context_latents=overlap,
            context=clip(0, context, "front").frames if context else None,
            generator=seeded(3),
            output_type=kind,
        )

    pieces = list(pipe.stream(scenes, **arguments("np")))
    assert len(pieces) > 1
    whole = pipe(scenes, **arguments("np"))
    np.testing.assert_allclose(np.concatenate([p.frames for p in pieces], axis=1), whole.frames, atol=1e-4)
    np.testing.assert_array_equal(np.concatenate([p.timestamps for p in pieces], axis=1), whole.timestamps)
    for index in range(batch):
        assert np.concatenate([p.scenes[index].speed for p in pieces]).tolist() == [index] * 56
    latents = [p.frames for p in pipe.stream(scenes, **arguments("latent"))]
    torch.testing.assert_close(torch.cat(latents, dim=1), pipe(scenes, **arguments("latent")).frames, atol=1e-5, rtol=0)


def test_a_stream_makes_a_window_only_when_it_is_asked_for(pipe: Gaia2Pipeline, spy: Spy) -> None:
    stream = pipe.stream(scene(56, "front"), num_inference_steps=STEPS)
    assert spy.calls == []
    next(stream)
    assert len(spy.calls) == STEPS
    next(stream)
    assert len(spy.calls) == 2 * STEPS
    stream.close()


def test_a_streams_input_is_checked_at_once(pipe: Gaia2Pipeline) -> None:
    with pytest.raises(ValueError, match="scene: expected a multiple of 8 frames, got 12"):
        pipe.stream(scene(12))
    with pytest.raises(ValueError, match="context: expected at most 16 frames"):
        pipe.stream(scene(40, "front"), context=clip(0, 24).frames)


def test_a_stream_holds_no_more_than_a_window(pipe: Gaia2Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the video is, no more latents are denoised, decoded or noised at once."""
    longest = dict(decode=0, noise=0)
    decode, noise = pipe.vae._decode, pipe.noise

    def spy_decode(latents: torch.Tensor) -> torch.Tensor:
        longest["decode"] = max(longest["decode"], latents.shape[2])
        return decode(latents)

    def spy_noise(shape: Any, generator: Any) -> torch.Tensor:
        longest["noise"] = max(longest["noise"], shape[1])
        return noise(shape, generator)

    monkeypatch.setattr(pipe.vae, "_decode", spy_decode)
    monkeypatch.setattr(pipe, "noise", spy_noise)
    pieces = [p.frames.shape[1] for p in pipe.stream(scene(160, "front"), num_inference_steps=1)]
    assert sum(pieces) == 160
    assert max(pieces) <= 24
    assert longest == dict(decode=3, noise=3)


def test_an_interrupted_stream_ends(pipe: Gaia2Pipeline) -> None:
    def callback(pipe: Gaia2Pipeline, step: int, *_: Any) -> None:
        pipe._interrupt = len(pieces) == 1

    pieces: list[Any] = []
    for piece in pipe.stream(scene(56, "front"), num_inference_steps=STEPS, callback_on_step_end=callback):
        pieces.append(piece)
    assert len(pieces) == 1

    def at_once(pipe: Gaia2Pipeline, *_: Any) -> None:
        pipe._interrupt = True

    assert list(pipe.stream(scene(56, "front"), num_inference_steps=STEPS, callback_on_step_end=at_once)) == []


def test_a_longer_video_begins_like_a_shorter_one_of_the_same_seed(pipe: Gaia2Pipeline) -> None:
    for generator in (lambda: seeded(1), lambda: [seeded(1), seeded(2)]):
        short, long = (
            pipe([scene(n, "front")] * 2, num_inference_steps=1, generator=generator(), output_type="latent").frames
            for n in (24, 40)
        )
        torch.testing.assert_close(long[:, :3], short, atol=1e-5, rtol=0)


def test_conditions_of_a_window_are_cut_at_the_right_times(pipe: Gaia2Pipeline, spy: Spy) -> None:
    given = scene(56, "front", speed=np.repeat(np.arange(7.0), 8))
    given = given.replace(timestamps=given.timestamps + 100.0 + 0.02 * np.arange(56)[:, None])
    list(pipe.stream(given, num_inference_steps=1, num_context_latents=1, context=clip(0, 8).frames))
    means = given.timestamps.reshape(7, 8).mean(axis=1)
    assert [c["speed"][0].tolist() for c in spy.conditioning] == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    for start, conditions in zip((0, 2, 4), spy.conditioning, strict=True):
        np.testing.assert_allclose(
            conditions["timestamps"][0, :, 0], means[start : start + 3] - means[start], atol=1e-4
        )


def test_context_noise_is_seen_by_the_network_and_not_in_the_video(pipe: Gaia2Pipeline, spy: Spy) -> None:
    def run(level: float) -> torch.Tensor:
        spy.calls.clear()
        return pipe(
            scene(56, "front"), num_inference_steps=STEPS, num_context_latents=1, context_noise=level,
            generator=seeded(), output_type="latent",
        ).frames  # fmt: skip

    clean = run(0.0)
    noised = run(0.3)
    torch.testing.assert_close(noised[:, :3], clean[:, :3])  # the first window has no context
    second = spy.calls[STEPS]["latents"][:, 0]
    noise = (second - 0.7 * noised[:, 2]) / 0.3
    assert noise.std().item() == pytest.approx(1.0, abs=0.35)
    assert abs(noise.mean().item()) < 0.5
    assert spy.calls[STEPS]["known_mask"][0, 0].all()
    assert torch.equal(spy.calls[STEPS + 1]["latents"][:, 0], second)  # the same noise in all steps
    assert (noised - clean)[:, 3:].abs().max() > 1e-4


@pytest.mark.parametrize("sampled", [True, False])
def test_reanchoring_hands_on_what_the_tokenizer_makes_of_the_video(
    pipe: Gaia2Pipeline, spy: Spy, sampled: bool
) -> None:
    got = pipe(
        scene(40, "front"), num_inference_steps=STEPS, num_context_latents=2, reanchor=True, generator=seeded(),
        output_type="latent", sample_posterior=sampled,
    ).frames  # fmt: skip
    generator = seeded()
    with torch.no_grad():
        pipe.noise((1, 4, 1, H, W, C), generator)  # the second window has one new latent
        expected = pipe.encode_frames(pipe.decode_latents(got[:, 1:3]), generator, sample_posterior=sampled)
    assert torch.equal(spy.calls[STEPS]["latents"][:, :2], expected)
    assert (expected - got[:, 1:3]).abs().max() > 1e-3


def test_a_users_context_is_not_reanchored(pipe: Gaia2Pipeline, spy: Spy) -> None:
    frames = clip(0, 8).frames
    pipe(scene(24, "front"), context=frames, num_inference_steps=1, reanchor=True, generator=seeded())
    with torch.no_grad():
        expected = pipe.encode_frames(torch.as_tensor(frames)[None] / 127.5 - 1, seeded())
    assert torch.equal(spy.calls[0]["latents"][:, :1], expected)


@pytest.mark.parametrize("level", [-0.1, 1.0])
def test_context_noise_is_a_level(pipe: Gaia2Pipeline, spy: Spy, level: float) -> None:
    with pytest.raises(ValueError, match=f"context_noise: expected a noise level from 0 to below 1, got {level}"):
        pipe(scene(), context_noise=level)
    assert spy.calls == []


def test_shapes_of_the_pieces_latents(pipe: Gaia2Pipeline) -> None:
    pieces = [p.frames.shape for p in pipe.stream(scene(40, "front"), num_inference_steps=1, output_type="latent")]
    assert pieces == [(1, 3, 1, H, W, C), (1, 2, 1, H, W, C)]


def two_ways(pipe: Gaia2Pipeline, **changes: Any) -> tuple[torch.Tensor, Rollout]:
    """A long video made by a call, and the rollout that makes the same."""
    given = scene(56, "front", speed=np.repeat(np.arange(7.0), 8))
    arguments: dict[str, Any] = dict(num_inference_steps=STEPS, context_noise=0.1, num_context_latents=1) | changes
    called = pipe(given, generator=seeded(), output_type="latent", **arguments).frames
    return called, Rollout(pipe, pipe.validate(given, Sampling(**arguments), generator=seeded()))


def test_a_rollout_is_what_a_call_makes(pipe: Gaia2Pipeline) -> None:
    expected, rollout = two_ways(pipe)
    parts = [rollout.start(), rollout.extend(), rollout.extend(), rollout.extend()]
    assert [part.shape[1] for part in parts] == [0, 3, 2, 2]
    assert torch.equal(torch.cat(parts, dim=1), expected)
    assert rollout.done == 7
    rollout.job.generator.manual_seed(0)
    assert torch.equal(torch.cat([rollout.start(), *rollout.run()], dim=1), expected)


def test_a_rollout_goes_on_from_given_latents(pipe: Gaia2Pipeline, spy: Spy) -> None:
    given = torch.randn(1, 1, 1, H, W, C, generator=seeded(9))
    rollout = Rollout(pipe, pipe.validate(scene(40, "front"), Sampling(STEPS), generator=seeded()))
    assert rollout.start(given) is given
    assert rollout.extend().shape[1] == 2
    assert torch.equal(spy.calls[0]["latents"][:, :1], given)


def test_the_scene_may_change_as_it_is_driven(pipe: Gaia2Pipeline, spy: Spy) -> None:
    slow, fast = (scene(frames, "front", speed=speed) for frames, speed in ((24, 2.0), (40, 20.0)))
    rollout = Rollout(pipe, pipe.validate(slow, Sampling(STEPS, num_context_latents=1), generator=seeded()))
    rollout.start()
    first = rollout.extend()
    second = rollout.extend(fast)
    assert [c["speed"][0].tolist() for c in spy.conditioning] == [[2, 2, 2], [20, 20, 20]]
    assert torch.equal(spy.calls[STEPS]["latents"][:, 0], first[:, 2])
    assert second.shape[1] == 2
    assert rollout.job.scenes[0].num_frames == 40


@pytest.mark.parametrize(("overlap", "held"), [(1, 4), (2, 3)])
def test_frames_of_a_rollout_know_no_later_latents(pipe: Gaia2Pipeline, overlap: int, held: int) -> None:
    sampling = Sampling(1, num_context_latents=overlap)
    rollout = Rollout(pipe, pipe.validate(scene(56, "front"), sampling, generator=seeded()))
    made = [rollout.start()]
    for _ in range(3):
        made.append(rollout.extend())
        with torch.no_grad():
            expected = pipe.decode_latents(torch.cat(made, dim=1))[:, -8 * made[-1].shape[1] :]
        torch.testing.assert_close(rollout.frames(), expected, atol=1e-5, rtol=0)
    assert torch.equal(rollout.latents, torch.cat(made, dim=1)[:, -held:])  # no more than needed


@pytest.mark.parametrize("solver", ["euler", "adams_bashforth"])
def test_rollouts_of_one_pipeline_take_turns(solver: str) -> None:
    pipe = pipeline(scheduler=FlowMatchScheduler(solver=solver))
    ways = [
        Sampling(2, num_context_latents=1),
        Sampling(3, guidance=Guidance(3.0), num_context_latents=1),
        Sampling(timesteps=(0.0, 0.5, 0.7, 0.9), num_context_latents=1),
    ]

    def begun(sampling: Sampling) -> Rollout:
        rollout = Rollout(pipe, pipe.validate(scene(56, "front"), sampling, generator=seeded()))
        rollout.start()
        return rollout

    expected = [torch.cat(list(begun(way).run()), dim=1) for way in ways]
    rollouts = [begun(way) for way in ways]
    turns = [[rollout.extend() for rollout in rollouts] for _ in range(3)]
    for index, whole in enumerate(expected):
        assert torch.equal(torch.cat([turn[index] for turn in turns], dim=1), whole)


def test_the_grid_is_laid_once_a_call_and_the_scheduler_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, laid = pipeline(), []
    before, set_timesteps = vars(pipe.scheduler).copy(), FlowMatchScheduler.set_timesteps
    monkeypatch.setattr(
        FlowMatchScheduler, "set_timesteps", lambda *args, **kw: laid.append(1) or set_timesteps(*args, **kw)
    )
    pipe(scene(56, "front"), num_inference_steps=STEPS, output_type="latent")
    assert len(laid) == 1
    assert vars(pipe.scheduler) == before


def test_bad_rollouts_are_refused(pipe: Gaia2Pipeline, spy: Spy) -> None:
    rollout = Rollout(pipe, pipe.validate(scene(24, "front"), Sampling(STEPS)))
    with pytest.raises(ValueError, match="Rollout: expected start to be called before, got a rollout that has not"):
        rollout.extend()
    with pytest.raises(ValueError, match="frames: expected a window that was made, got none; call start, then extend"):
        rollout.frames()
    with pytest.raises(ValueError, match=r"latents: expected \(b=1, t, n=1, .*, got \(1, 1, 3, 2, 4, 4\)"):
        rollout.start(torch.zeros(1, 1, 3, H, W, C))
    with pytest.raises(ValueError, match="latents: expected fewer than the scene's 3 latent times, got 3"):
        rollout.start(torch.zeros(1, 3, 1, H, W, C))
    assert spy.calls == []
    rollout.start()
    rollout.extend()
    with pytest.raises(ValueError, match=r"extend: expected a scene of more than the 3 latent times .* got 3; give a"):
        rollout.extend()
    with pytest.raises(ValueError, match=r"scene: expected 1 scenes with the cameras front, .* got 1 with front,"):
        rollout.extend(scene(40, "surround3"))
    with pytest.raises(ValueError, match=r"scene: expected 1 scenes .* got 2 with front; begin another rollout"):
        rollout.extend([scene(40, "front")] * 2)
    with pytest.raises(ValueError, match="scene: expected a multiple of 8 frames, got 41"):
        rollout.extend(scene(41, "front"))


@settings(max_examples=300, deadline=None)
@drawn(length=st.integers(1, 40), window=st.integers(2, 8), data=st.data())
def test_windows_make_every_latent_once(length: int, window: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(1, window - 1))
    given_latents = data.draw(st.integers(0, length - 1))
    plan = list(windows(length, window, overlap, given_latents))
    made = [t for w in plan for t in range(w.start + w.context, w.stop)]
    assert made == list(range(given_latents, length))
    for index, w in enumerate(plan):
        assert 0 <= w.start < w.stop <= length
        assert w.stop - w.start == min(window, length)
        assert 0 <= w.context < w.stop - w.start
        if index or given_latents:
            assert w.context >= 1
            assert w.context >= min(overlap, w.start + w.context)  # as much as there is, up to the overlap
    assert all(w.context == overlap for w in plan[1:-1])


def test_windows_of_the_paper() -> None:
    assert list(windows(12, 6, 3)) == [Window(0, 6, 0), Window(3, 9, 3), Window(6, 12, 3)]
    assert list(windows(6, 6, 3, given=3)) == [Window(0, 6, 3)]
    assert list(windows(10, 6, 3, given=1)) == [Window(0, 6, 1), Window(3, 9, 3), Window(4, 10, 5)]
    assert list(windows(2, 6, 3)) == [Window(0, 2, 0)]
