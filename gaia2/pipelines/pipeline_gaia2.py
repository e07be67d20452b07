"""Generation from scratch and from context, for any length (paper §5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Literal, overload

import numpy as np
import torch
from diffusers.guiders.guider_utils import BaseGuidance

from gaia2._registration import register
from gaia2.pipelines.base import Gaia2PipelineBase
from gaia2.pipelines.finite import check_finite
from gaia2.pipelines.guidance import Guidance
from gaia2.pipelines.inputs import check_context
from gaia2.pipelines.job import Job, StepEndCallback
from gaia2.pipelines.output import Gaia2PipelineOutput, to_output
from gaia2.pipelines.rollout import Rollout
from gaia2.pipelines.sampling import Sampling
from gaia2.pipelines.unknown_arguments import explain_unknown
from gaia2.scene import Scene
from gaia2.schedulers.flow_match import Generators


@register
class Gaia2Pipeline(Gaia2PipelineBase):
    """Generates multi-camera driving video that obeys a scene (paper §5).

    Without `context` the video is made from noise; with it, its first frames are given and the rest is predicted.
    Videos longer than the world model's window are made window by window, each given the last latents before it.

    Args:
        vae: Encodes and decodes the video of one camera.
        transformer: Predicts the velocity of latents.
        scheduler: Steps along it; ours, or a flow scheduler of diffusers.
        text_encoder: CLIP's text model, for scenes with a prompt. Optional.
        tokenizer: CLIP's tokenizer, likewise.
        default_guidance_scale: Guidance of calls that do not say their own; 1 is none.

    Example:
        >>> import gaia2
        >>> pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
        >>> pipe.set_progress_bar_config(disable=True)
        >>> scene = gaia2.Scene.create(speed=10.0, weather="snow", time_of_day="day", num_frames=8)
        >>> pipe(scene, num_inference_steps=2).frames.shape
        (1, 8, 5, 64, 128, 3)
    """

    @overload
    def __call__(
        self,
        scene: Scene | Sequence[Scene],
        *,
        context: torch.Tensor | np.ndarray | None = None,
        num_videos_per_scene: int = 1,
        num_inference_steps: int = 50,
        timesteps: Sequence[float] | None = None,
        guidance_scale: float | None = None,
        guidance_on: Sequence[str] | None = None,
        guidance_region: str | None = None,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        guider: BaseGuidance | None = None,
        num_context_latents: int | None = None,
        context_noise: float = 0.0,
        reanchor: bool = False,
        sample_posterior: bool = True,
        image_size: tuple[int, int] | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        output_type: str = "np",
        output_latents: bool = False,
        return_dict: Literal[True] = True,
        callback_on_step_end: StepEndCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Gaia2PipelineOutput: ...

    @overload
    def __call__(
        self, scene: Scene | Sequence[Scene], *, return_dict: Literal[False], **options: Any
    ) -> tuple[Any, list[Scene]]: ...

    @explain_unknown  # type: ignore[misc]  # the second overload leaves the options unnamed
    @torch.no_grad()
    def __call__(
        self,
        scene: Scene | Sequence[Scene],
        *,
        context: torch.Tensor | np.ndarray | None = None,
        num_videos_per_scene: int = 1,
        num_inference_steps: int = 50,
        timesteps: Sequence[float] | None = None,
        guidance_scale: float | None = None,
        guidance_on: Sequence[str] | None = None,
        guidance_region: str | None = None,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        guider: BaseGuidance | None = None,
        num_context_latents: int | None = None,
        context_noise: float = 0.0,
        reanchor: bool = False,
        sample_posterior: bool = True,
        image_size: tuple[int, int] | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        output_type: str = "np",
        output_latents: bool = False,
        return_dict: bool = True,
        callback_on_step_end: StepEndCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Gaia2PipelineOutput | tuple[Any, list[Scene]]:
        """Generate.

        Args:
            scene: What to generate, or a list of scenes of one length and rig. Their frames are a multiple of the
                tokenizer's `frames_per_latent`.
            context: The first frames, uint8 or float in [-1, 1], `(tv, n, 3, hv, wv)` for all scenes or
                `(b, tv, n, 3, hv, wv)`; a multiple of `frames_per_latent`, fewer than the scene has and than a window.
            num_videos_per_scene: Videos of each scene, from different noise.
            num_inference_steps: Denoising steps of each window (paper: 50).
            timesteps: Flow times of your own, where each step begins, in place of the scheduler's grid.
            guidance_scale: Classifier-free guidance; by default the `default_guidance_scale` that the checkpoint says.
                1 is none, others take about twice the time; the paper takes 2 to 20 for hard scenes.
            guidance_on: Conditions to guide on, such as `("weather",)`; all by default. Names of the metadata, "speed",
                "curvature", "agents", "metadata", "prompt" (or "clip") and "scenario".
            guidance_region: "agents" applies the scale under the agents' projected boxes only, guiding on the agents
                alone if `guidance_on` says nothing else; elsewhere the velocity of a step is that without guidance.
                Over the steps attention carries what changes to the other tokens, too.
            guidance_interval: First and last flow time at which guidance acts, 0 noise and 1 data.
            guider: A guider of diffusers, such as `ClassifierFreeGuidance` or `AdaptiveProjectedGuidance`, in place of
                the scale and the interval; `guidance_on` and `guidance_region` still say on what and where.
            num_context_latents: Latents a window takes over from the one before (paper: 3 of 6); half of the window
                by default.
            context_noise: Noise level, 0 to below 1, that the network gets the context with. A little of it hides the
                small errors of a rollout, so that they do not add up. The video keeps the clean latents.
            reanchor: Decode the context and encode it again before each window after the first, so that latents cannot
                drift away from those of real images; costs one decoding and encoding of the context a window.
            sample_posterior: Whether encoded frames become a sample of their latents, as the paper's, or the mean.
            image_size: Pixels `(hv, wv)`; by default the size that the models were trained at, the tokenizer's
                `sample_size`. The scene's rig is cropped and scaled to it.
            generator: Random numbers, one or one per video. With one per video, a video does not depend on its batch.
            latents: Noise to begin with, `(b, t, n, h, w, c)`.
            output_type: "np", "pt", "pil" or "latent".
            output_latents: Give the latents besides the frames.
            return_dict: Give an output object rather than a tuple.
            callback_on_step_end: Called as `f(pipe, step, timestep, tensors)` after each step of a window; a returned
                dict may hold other "latents". `pipe._guidance_scale = 3.0` holds from the next step on until the call
                ends; `pipe._interrupt = True` ends the call with what is there.
            callback_on_step_end_tensor_inputs: Names of the tensors the callback gets: "latents", "velocity" and
                "known_mask" `(b, t, n, h, w)`, all of the window at hand.

        Returns:
            The frames and the scenes as they were used.

        Raises:
            ValueError: If an argument does not fit; before the first step.
        """
        job = self.validate(
            scene,
            Sampling(
                num_inference_steps,
                timesteps,
                guidance=Guidance(guidance_scale, guidance_on, guidance_region, guidance_interval, guider),
                num_context_latents=num_context_latents,
                context_noise=context_noise,
                reanchor=reanchor,
                sample_posterior=sample_posterior,
            ),
            num_videos_per_scene=num_videos_per_scene,
            image_size=image_size,
            generator=generator,
            callback=callback_on_step_end,
            callback_tensors=callback_on_step_end_tensor_inputs,
            output_type=output_type,
        )
        rollout, given = self._start(job, context, latents)
        made = torch.cat([given, *rollout.run()], dim=1)
        return self._finish(job, made, output_type, output_latents, return_dict)

    @explain_unknown
    def stream(
        self,
        scene: Scene | Sequence[Scene],
        *,
        context: torch.Tensor | np.ndarray | None = None,
        num_videos_per_scene: int = 1,
        num_inference_steps: int = 50,
        timesteps: Sequence[float] | None = None,
        guidance_scale: float | None = None,
        guidance_on: Sequence[str] | None = None,
        guidance_region: str | None = None,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        guider: BaseGuidance | None = None,
        num_context_latents: int | None = None,
        context_noise: float = 0.0,
        reanchor: bool = False,
        sample_posterior: bool = True,
        image_size: tuple[int, int] | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        output_type: str = "np",
        callback_on_step_end: StepEndCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Iterator[Gaia2PipelineOutput]:
        """Generate a video of any length and give its frames window by window, in bounded memory.

        All pieces together are the video that a call with the same arguments gives. A window's last frames come with
        the next one, as the decoder looks at one latent ahead; with `output_type="latent"` nothing is held back.

        Args:
            scene: As of a call; see `__call__` for the other arguments, too.
            context: See `__call__`.
            num_videos_per_scene: See `__call__`.
            num_inference_steps: See `__call__`.
            timesteps: See `__call__`.
            guidance_scale: See `__call__`.
            guidance_on: See `__call__`.
            guidance_region: See `__call__`.
            guidance_interval: See `__call__`.
            guider: See `__call__`.
            num_context_latents: See `__call__`.
            context_noise: See `__call__`.
            reanchor: See `__call__`.
            sample_posterior: See `__call__`.
            image_size: See `__call__`.
            generator: See `__call__`.
            latents: See `__call__`.
            output_type: See `__call__`.
            callback_on_step_end: See `__call__`; after an interrupt no more pieces come.
            callback_on_step_end_tensor_inputs: See `__call__`.

        Returns:
            An iterator of outputs, each with the next frames and the part of the scenes that they show.

        Raises:
            ValueError: If an argument does not fit; at once, not at the first piece.

        Example:
            >>> import gaia2
            >>> pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
            >>> pipe.set_progress_bar_config(disable=True)
            >>> scene = gaia2.Scene.create("front", num_frames=40)
            >>> [piece.frames.shape[1] for piece in pipe.stream(scene, num_inference_steps=1)]
            [16, 24]
        """
        job = self.validate(
            scene,
            Sampling(
                num_inference_steps,
                timesteps,
                guidance=Guidance(guidance_scale, guidance_on, guidance_region, guidance_interval, guider),
                num_context_latents=num_context_latents,
                context_noise=context_noise,
                reanchor=reanchor,
                sample_posterior=sample_posterior,
            ),
            num_videos_per_scene=num_videos_per_scene,
            image_size=image_size,
            generator=generator,
            callback=callback_on_step_end,
            callback_tensors=callback_on_step_end_tensor_inputs,
            output_type=output_type,
        )
        rollout, given = self._start(job, context, latents)
        return self._stream(rollout, given, output_type)

    @torch.no_grad()
    def _start(
        self, job: Job, context: torch.Tensor | np.ndarray | None, latents: torch.Tensor | None
    ) -> tuple[Rollout, torch.Tensor]:
        """Check what the video is to be made of besides the scene, and begin with the latents of the context."""
        noise = None if latents is None else self._all_noise(job, latents)
        begin = None if noise is None else lambda start, stop: (noise[:, start:stop], None)
        rollout = Rollout(self, job, begin)
        return rollout, rollout.start(self.encode_context(job, context))

    @torch.no_grad()
    def encode_context(self, job: Job, context: torch.Tensor | np.ndarray | None) -> torch.Tensor | None:
        """Check and encode the first frames of a job's video, for `Rollout.start`; None without any.

        Args:
            job: What `validate` gives.
            context: As of a call.

        Returns:
            Normalised latents `(b, t, n, h, w, c)`.

        Raises:
            ValueError: If the frames do not fit.
        """
        if context is None:
            return None
        frames = check_context(
            context,
            job.scenes,
            job.videos_per_scene,
            frames_per_latent=self.vae.frames_per_latent,
            window_latents=self.transformer.config.window_latents,
        )
        encoded = self.encode_frames(frames, job.generator, job.sampling.sample_posterior)
        return encoded.to(self._execution_device)

    @torch.no_grad()
    def _stream(self, rollout: Rollout, given: torch.Tensor, output_type: str) -> Iterator[Gaia2PipelineOutput]:
        rate, length = self.vae.frames_per_latent, rollout.job.shape[1]
        made = shown = 0

        def made_parts() -> Iterator[torch.Tensor]:
            nonlocal made
            for part in chain([given], rollout.run()):
                if rollout.state.interrupt:
                    return
                made += part.shape[1]
                check_finite("latents", part, self, rollout.job.sampling.guidance.scale)
                if part.shape[1]:
                    yield part

        latent = output_type == "latent"
        ready: list[torch.Tensor] = []
        for piece in made_parts() if latent else self._decode_stream(made_parts(), rollout.job.shape):
            ready.append(piece)
            waiting = 0 if latent or made == length else self.vae.config.decode_window // 2
            stop = shown + sum(part.shape[1] for part in ready) * (rate if latent else 1)
            if stop == (made - waiting) * rate:
                frames = torch.cat(ready, dim=1)
                if not latent:
                    check_finite("frames", frames, self)
                scenes = [scene.window(shown, stop) for scene in rollout.job.scenes]
                shown, ready = stop, []
                yield Gaia2PipelineOutput(frames=frames if latent else to_output(frames, output_type), scenes=scenes)
        self.maybe_free_model_hooks()
