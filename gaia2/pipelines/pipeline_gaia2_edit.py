"""Scene editing: a video is noised in part and denoised under other conditions (paper §5, figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
import torch
from diffusers.guiders.guider_utils import BaseGuidance

from gaia2._checks import real_number
from gaia2._registration import register
from gaia2.pipelines.base import Gaia2PipelineBase
from gaia2.pipelines.guidance import Guidance
from gaia2.pipelines.inputs import check_whole_video
from gaia2.pipelines.job import StepEndCallback
from gaia2.pipelines.output import Gaia2PipelineOutput
from gaia2.pipelines.rollout import Rollout
from gaia2.pipelines.sampling import Sampling
from gaia2.pipelines.unknown_arguments import explain_unknown
from gaia2.scene import Scene
from gaia2.schedulers.flow_match import Generators
from gaia2.schedulers.path import interpolate


@register
class Gaia2EditPipeline(Gaia2PipelineBase):
    """Changes a multi-camera video to obey another scene, such as another weather or time of day (paper §5).

    Args:
        vae: Encodes and decodes the video of one camera.
        transformer: Predicts the velocity of latents.
        scheduler: Steps along it; ours, or a flow scheduler of diffusers.
        text_encoder: CLIP's text model, for scenes with a prompt. Optional.
        tokenizer: CLIP's tokenizer, likewise.
        default_guidance_scale: Guidance of calls that do not say their own; 1 is none.

    Example:
        >>> import gaia2
        >>> pipe = gaia2.Gaia2EditPipeline.from_pretrained(gaia2.default_model())
        >>> pipe.set_progress_bar_config(disable=True)
        >>> scene = gaia2.Scene.create("front", num_frames=8, weather="snow")
        >>> video = np.zeros((8, 1, 3, 64, 128), dtype=np.uint8)
        >>> pipe(scene, video, strength=0.7, num_inference_steps=4).frames.shape
        (1, 8, 1, 64, 128, 3)
    """

    @overload
    def __call__(
        self,
        scene: Scene | Sequence[Scene],
        video: torch.Tensor | np.ndarray,
        strength: float = 0.85,
        *,
        num_videos_per_scene: int = 1,
        num_inference_steps: int = 50,
        timesteps: Sequence[float] | None = None,
        guidance_scale: float | None = None,
        guidance_on: Sequence[str] | None = None,
        guidance_region: str | None = None,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        guider: BaseGuidance | None = None,
        num_context_latents: int | None = None,
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
        self,
        scene: Scene | Sequence[Scene],
        video: torch.Tensor | np.ndarray,
        strength: float = 0.85,
        *,
        return_dict: Literal[False],
        **options: Any,
    ) -> tuple[Any, list[Scene]]: ...

    @explain_unknown  # type: ignore[misc]  # the second overload leaves the options unnamed
    @torch.no_grad()
    def __call__(
        self,
        scene: Scene | Sequence[Scene],
        video: torch.Tensor | np.ndarray,
        strength: float = 0.85,
        *,
        num_videos_per_scene: int = 1,
        num_inference_steps: int = 50,
        timesteps: Sequence[float] | None = None,
        guidance_scale: float | None = None,
        guidance_on: Sequence[str] | None = None,
        guidance_region: str | None = None,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        guider: BaseGuidance | None = None,
        num_context_latents: int | None = None,
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
        """Edit.

        Args:
            scene: What the result shall show, or a list of scenes of one length and rig.
            video: All frames, uint8 or float in [-1, 1], `(tv, n, 3, hv, wv)` for all scenes or
                `(b, tv, n, 3, hv, wv)`.
            strength: Noise level `1 - tau` that the video is brought to, in [0, 1]. 0 gives the tokenizer's
                reconstruction of a sample of its latents, 1 a generation from scratch. The steps are those that a
                generation from scratch would take from there, so a smaller strength takes fewer.
            num_videos_per_scene: Videos of each scene, from different noise.
            num_inference_steps: Denoising steps of the whole grid.
            timesteps: Flow times of your own in place of the scheduler's grid.
            guidance_scale: See `Gaia2Pipeline`.
            guidance_on: See `Gaia2Pipeline`.
            guidance_region: See `Gaia2Pipeline`.
            guidance_interval: See `Gaia2Pipeline`.
            guider: See `Gaia2Pipeline`.
            num_context_latents: See `Gaia2Pipeline`.
            sample_posterior: Whether the video becomes a sample of its latents, as the paper's, or their mean.
            image_size: Pixels `(hv, wv)` of the video; by default the tokenizer's `sample_size`.
            generator: Random numbers, one or one per video; the same as for `Gaia2Pipeline` give the same noise.
            latents: Noise, `(b, t, n, h, w, c)`.
            output_type: "np", "pt", "pil" or "latent".
            output_latents: Give the latents besides the frames.
            return_dict: Give an output object rather than a tuple.
            callback_on_step_end: See `Gaia2Pipeline`.
            callback_on_step_end_tensor_inputs: See `Gaia2Pipeline`.

        Returns:
            The frames and the scenes as they were used.

        Raises:
            ValueError: If an argument does not fit; before the first step.
        """
        real_number("strength", strength, 0, 1, what="a noise level", hint="0 changes nothing, 1 begins from scratch")
        begin = 1 - strength
        job = self.validate(
            scene,
            Sampling(
                num_inference_steps,
                timesteps,
                begin=begin % 1,
                guidance=Guidance(guidance_scale, guidance_on, guidance_region, guidance_interval, guider),
                num_context_latents=num_context_latents,
                sample_posterior=sample_posterior,
            ),
            num_videos_per_scene=num_videos_per_scene,
            image_size=image_size,
            generator=generator,
            callback=callback_on_step_end,
            callback_tensors=callback_on_step_end_tensor_inputs,
            output_type=output_type,
        )
        frames = check_whole_video(video, job.scenes, job.videos_per_scene)
        noise = self._all_noise(job, latents)
        encoded = self.encode_frames(frames, job.generator, sample_posterior)
        if begin == 1:
            return self._finish(job, encoded, output_type, output_latents, return_dict)
        start = interpolate(encoded, noise, encoded.new_tensor(float(job.scheduler.timesteps[0])))
        rollout = Rollout(self, job, lambda a, b: (start[:, a:b], None))
        made = torch.cat([rollout.start(), *rollout.run()], dim=1)
        return self._finish(job, made, output_type, output_latents, return_dict)
