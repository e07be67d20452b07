"""Videos of any length: windows that slide over the latents, each given the last of what is there (paper §5)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from tqdm.auto import tqdm

from gaia2.nn.shapes import check_axes
from gaia2.pipelines.denoise import denoise
from gaia2.pipelines.finite import check_finite
from gaia2.pipelines.guided_velocity import GuidedVelocity
from gaia2.pipelines.job import Job
from gaia2.pipelines.labels import agent_region
from gaia2.pipelines.state import CallState
from gaia2.scene import Scene
from gaia2.schedulers.path import interpolate

if TYPE_CHECKING:
    from gaia2.pipelines.base import Gaia2PipelineBase

Begin = Callable[[int, int], tuple[torch.Tensor, torch.Tensor | None]]
"""From first and last latent time to the latents to denoise there and which of their tokens are known."""


@dataclass(frozen=True)
class Window:
    """One stretch of a long video, in latent times.

    Attributes:
        start: First latent time.
        stop: One past the last.
        context: Latent times at its beginning that are there already.
    """

    start: int
    stop: int
    context: int


def windows(length: int, window: int, overlap: int, given: int = 0) -> Iterator[Window]:
    """Cut a video into windows that each begin with `overlap` latents of what is there (paper §5).

    Args:
        length: Latent times of the whole video.
        window: Latent times of a window.
        overlap: Latent times that a window shares with what came before.
        given: Latent times at the beginning that are there.

    Yields:
        Windows that together make the latent times from `given` to `length`; the last may begin with a longer context
        so that it, too, is `window` long.

    Example:
        >>> [(w.start, w.stop, w.context) for w in windows(7, window=3, overlap=1)]
        [(0, 3, 0), (2, 5, 1), (4, 7, 1)]
    """
    done = given
    while done < length:
        stop = min(max(0, done - overlap) + window, length)
        start = max(0, stop - window)
        yield Window(start=start, stop=stop, context=done - start)
        done = stop


class Rollout:
    """A video that grows window by window, its scene maybe decided as it goes (paper §5, autoregressive prediction).

    Calls of the pipelines, `Gaia2Pipeline.stream` and `Gaia2Env` are made of it. It works on latents, with the
    pipeline's `encode_frames` and `decode_latents` at both ends, and holds no more of them than the next window needs.
    Several rollouts of one pipeline can take turns.

    Args:
        pipe: The pipeline.
        job: What to generate and how to sample it: what `pipe.validate` gives.
        begin: Gives the latents that a window begins with, and its known tokens; fresh noise by default.

    Example:
        >>> import gaia2
        >>> from gaia2.pipelines import Rollout, Sampling
        >>> pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
        >>> pipe.set_progress_bar_config(disable=True)
        >>> scene = gaia2.Scene.create("front", num_frames=40, speed=10.0)
        >>> rollout = Rollout(pipe, pipe.validate(scene, Sampling(num_inference_steps=1)))
        >>> rollout.start().shape[1], rollout.extend().shape[1]
        (0, 3)
        >>> rollout.extend(scene.replace(speed=2.0)).shape[1], rollout.done, rollout.frames().shape
        (2, 5, torch.Size([1, 16, 1, 3, 64, 128]))
    """

    def __init__(self, pipe: Gaia2PipelineBase, job: Job, begin: Begin | None = None) -> None:
        self.pipe = pipe
        self.job = job
        self.state = CallState()
        self._begin = self._fresh_noise if begin is None else begin
        self._held: torch.Tensor | None = None
        self._given = self._done = self._drawn = self._newest = 0

    @property
    def done(self) -> int:
        """Latent times that are there, the given ones among them."""
        return self._done

    @property
    def latents(self) -> torch.Tensor | None:
        """The last latents `(b, t, n, h, w, c)`, as many as the next window or `frames` needs; None before `start`."""
        return self._held

    @torch.no_grad()
    def start(self, latents: torch.Tensor | None = None) -> torch.Tensor:
        """Begin, maybe with what is given.

        Args:
            latents: The first latents of the video `(b, t, n, h, w, c)`, normalised; none by default.

        Returns:
            These latents, of no latent times where none are given.

        Raises:
            ValueError: If their axes do not fit the job, or a prompt cannot be embedded.
        """
        pipe, (b, t, n, h, w, c) = self.pipe, self.job.shape
        given = torch.empty(b, 0, n, h, w, c, device=pipe._execution_device) if latents is None else latents
        check_axes("latents", given, "b t n h w c", b=b, n=n, h=h, w=w, c=c, hint="encode frames of the job's scenes")
        if given.shape[1] >= t:
            raise ValueError(f"latents: expected fewer than the scene's {t} latent times, got {given.shape[1]}")
        self.state = pipe._state = CallState(self.job.sampling.guidance, len(self.job.scheduler.timesteps))
        self._conditioned = pipe.embed_prompts(self.job.scenes)
        self._held, self._given, self._done = given, given.shape[1], given.shape[1]
        self._drawn = self._newest = 0
        return given

    @torch.no_grad()
    def extend(self, scene: Scene | Sequence[Scene] | None = None) -> torch.Tensor:
        """Make the next window.

        Args:
            scene: The scene from its first frame on, if it has become another or a longer one meanwhile; a list for a
                batch. What is there already stays.

        Returns:
            The new latents `(b, t, n, h, w, c)`.

        Raises:
            ValueError: If `start` was not called, the scene is over, or the new one does not fit the old one.
        """
        if scene is not None:
            self._describe(scene)
        window = next(self._windows(), None)
        if window is None:
            raise ValueError(
                f"extend: expected a scene of more than the {self._done} latent times that are there, got "
                f"{self.job.shape[1]}; give a longer one"
            )
        with self.pipe.progress_bar(total=self.state.num_timesteps) as progress:
            return self._make(window, progress)

    @torch.no_grad()
    def run(self) -> Iterator[torch.Tensor]:
        """Extend until the scene is over, with one progress bar for all windows; yields what each adds.

        Raises:
            ValueError: If `start` was not called.
        """
        plan = list(self._windows())
        with self.pipe.progress_bar(total=len(plan) * self.state.num_timesteps) as progress:
            for window in plan:
                yield self._make(window, progress)

    @torch.no_grad()
    def frames(self) -> torch.Tensor:
        """Decode what the last window added, given the latents before it and none after it, as closed loops need it.

        Returns:
            Frames `(b, tv, n, 3, hv, wv)` in [-1, 1].

        Raises:
            ValueError: If there is no window yet.
        """
        if self._held is None or not self._newest:
            raise ValueError("frames: expected a window that was made, got none; call start, then extend")
        before = self.pipe.vae.config.decode_window - 1
        decoded = self.pipe.decode_latents(self._held[:, -(before + self._newest) :])
        check_finite("frames", decoded, self.pipe, self.job.sampling.guidance.scale)
        return decoded[:, -self._newest * self.pipe.vae.frames_per_latent :]

    def _windows(self) -> Iterator[Window]:
        if self._held is None:
            raise ValueError("Rollout: expected start to be called before, got a rollout that has not begun; call it")
        window = self.pipe.transformer.config.window_latents
        return windows(self.job.shape[1], window, self.job.sampling.overlap(window), self._done)

    def _describe(self, scene: Scene | Sequence[Scene]) -> None:
        """Go on with another scene."""
        ratio, (b, _, n, h, w, c) = self.pipe.vae.spatial_compression_ratio, self.job.shape
        scenes = self.pipe.fit_scenes(scene, self.job.videos_per_scene, (h * ratio, w * ratio))
        rate, got = self.pipe.vae.frames_per_latent, (len(scenes), scenes[0].rig.names)
        if got != (b, self.job.scenes[0].rig.names):
            raise ValueError(
                f"scene: expected {b} scenes with the cameras {', '.join(self.job.scenes[0].rig.names)}, as the "
                f"rollout began, got {got[0]} with {', '.join(got[1])}; begin another rollout"
            )
        self._conditioned = self.pipe.embed_prompts(scenes)
        self.job = replace(self.job, scenes=scenes, shape=(b, scenes[0].num_frames // rate, n, h, w, c))

    def _fresh_noise(self, start: int, stop: int) -> tuple[torch.Tensor, None]:
        """Noise drawn when it is wanted; that of given latents is drawn too, and left out."""
        b, _, *rest = self.job.shape
        fresh = self.pipe.noise((b, stop - self._drawn, *rest), self.job.generator)[:, start - self._drawn :]
        self._drawn = stop
        return fresh, None

    def _make(self, window: Window, progress: tqdm) -> torch.Tensor:
        """The new latents of a window; what the next one needs is held."""
        pipe, held = self.pipe, self._held
        assert held is not None
        pipe._state = self.state  # another rollout may have had its turn
        new, known = self._begin(window.start + window.context, window.stop)
        context = held[:, held.shape[1] - window.context :]
        if self.job.sampling.reanchor and self._done > self._given:
            frames, sampling = pipe.decode_latents(context), self.job.sampling
            context = pipe.encode_frames(frames, self.job.generator, sampling.sample_posterior)
        new = self._denoise(window, self._noised(context), new, known, progress)
        needed = max(pipe.transformer.config.window_latents, pipe.vae.config.decode_window - 1 + new.shape[1])
        self._held = torch.cat([held, new], dim=1)[:, -needed:]
        self._done, self._newest = window.stop, new.shape[1]
        return new

    def _noised(self, context: torch.Tensor) -> torch.Tensor:
        level = self.job.sampling.context_noise
        if not level or not context.shape[1]:
            return context
        return interpolate(context, self.pipe.noise(context.shape, self.job.generator), context.new_tensor(1 - level))

    def _denoise(
        self, window: Window, context: torch.Tensor, new: torch.Tensor, known: torch.Tensor | None, progress: tqdm
    ) -> torch.Tensor:
        known_mask = None
        if known is not None:
            known_mask = torch.cat([torch.ones_like(context[..., 0], dtype=torch.bool), known], dim=1)
        elif window.context:  # whole frames, told by an expanded mask: the network then modulates frames, not tokens
            frames = torch.arange(context.shape[1] + new.shape[1], device=new.device) < window.context
            known_mask = rearrange(frames, "t -> 1 t 1 1 1").expand(len(new), -1, *new.shape[2:-1])
        if known is not None and known.all():
            progress.update(self.state.num_timesteps)
            return new
        transformer, job = self.pipe.transformer, self.job
        velocity_of = self._velocity_of(window, (new.shape[3], new.shape[4]), known_mask)
        if transformer.is_cache_enabled:
            transformer._reset_stateful_cache()  # what it holds is of another window

        def on_step(index: int, tau: torch.Tensor, tensors: dict[str, torch.Tensor | None]) -> torch.Tensor:
            progress.update()
            changed = {}
            if job.callback is not None:
                chosen = {name: tensors[name] for name in job.callback_tensors}
                changed = job.callback(self.pipe, index, tau, chosen) or {}
            return changed.get("latents", tensors["latents"])  # type: ignore[return-value]

        latents = denoise(
            velocity_of,
            copy.deepcopy(job.scheduler),
            torch.cat([context, new], dim=1),
            self.state,
            known_mask=known_mask,
            generator=job.generator,
            on_step=on_step,
        )
        return latents[:, window.context :]

    def _velocity_of(self, window: Window, grid: tuple[int, int], known_mask: torch.Tensor | None) -> GuidedVelocity:
        """The network with the conditions of a window."""
        pipe, guidance, rate = self.pipe, self.job.sampling.guidance, self.pipe.vae.frames_per_latent
        scenes = self._conditioned
        if window.stop - window.start < self.job.shape[1]:
            scenes = [scene.window(window.start * rate, window.stop * rate) for scene in scenes]
        region = None
        if guidance.region == "agents":
            region = agent_region(scenes, rate, grid).to(pipe._execution_device)
        conditioning = pipe.conditioning(scenes, present_frame=max(0, window.context - 1))
        return GuidedVelocity(pipe.transformer, conditioning, guidance, region, known_mask, grid)
