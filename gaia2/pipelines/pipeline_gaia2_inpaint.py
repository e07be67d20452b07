"""Inpainting: a part of a video is made again, the rest stays (paper §5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
import torch
from diffusers.guiders.guider_utils import BaseGuidance
from einops import reduce

from gaia2._checks import whole_number
from gaia2._registration import register
from gaia2.nn.shapes import check_axes
from gaia2.pipelines.base import Gaia2PipelineBase
from gaia2.pipelines.guidance import Guidance
from gaia2.pipelines.inputs import MAX_SIDE, as_tensor, check_whole_video
from gaia2.pipelines.job import Job, StepEndCallback
from gaia2.pipelines.labels import agent_tubes
from gaia2.pipelines.output import Gaia2PipelineOutput
from gaia2.pipelines.rollout import Rollout
from gaia2.pipelines.sampling import Sampling
from gaia2.pipelines.unknown_arguments import explain_unknown
from gaia2.scene import Scene
from gaia2.schedulers.flow_match import Generators


@register
class Gaia2InpaintPipeline(Gaia2PipelineBase):
    """Makes the masked part of a multi-camera video again so that it obeys a scene (paper §5).

    The mask says what to make again in space, time and cameras. On the latent grid it grows to whole tokens. Latents
    of the others are known to the network and stay bit-equal; their pixels may change a little beside the mask, as the
    decoder looks at neighbours. To put an agent somewhere else, or to take it away, mask both places and give the
    scene as it shall be.

    Args:
        vae: Encodes and decodes the video of one camera.
        transformer: Predicts the velocity of latents.
        scheduler: Steps along it; ours, or a flow scheduler of diffusers.
        text_encoder: CLIP's text model, for scenes with a prompt. Optional.
        tokenizer: CLIP's tokenizer, likewise.
        default_guidance_scale: Guidance of calls that do not say their own; 1 is none.

    Example:
        >>> import gaia2
        >>> pipe = gaia2.Gaia2InpaintPipeline.from_pretrained(gaia2.default_model())
        >>> pipe.set_progress_bar_config(disable=True)
        >>> scene = gaia2.Scene.create("front", num_frames=8)
        >>> video = np.zeros((8, 1, 3, 64, 128), dtype=np.uint8)
        >>> mask = np.zeros((8, 1, 64, 128), dtype=bool)
        >>> mask[..., 64:] = True
        >>> pipe(scene, video, mask, num_inference_steps=2).frames.shape
        (1, 8, 1, 64, 128, 3)
    """

    @overload
    def __call__(
        self,
        scene: Scene | Sequence[Scene],
        video: torch.Tensor | np.ndarray,
        mask: torch.Tensor | np.ndarray | None = None,
        *,
        agents: Sequence[int] | None = None,
        dilation: int = 8,
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
        mask: torch.Tensor | np.ndarray | None = None,
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
        mask: torch.Tensor | np.ndarray | None = None,
        *,
        agents: Sequence[int] | None = None,
        dilation: int = 8,
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
        """Inpaint.

        Args:
            scene: What the result shall show, or a list of scenes of one length and rig.
            video: All frames, uint8 or float in [-1, 1], `(tv, n, 3, hv, wv)` for all scenes or
                `(b, tv, n, 3, hv, wv)`.
            mask: Boolean (or 0 and 1) `(tv, n, hv, wv)` or `(b, tv, n, hv, wv)`, true where the video is made again.
            agents: Track ids of the scene's agents whose tubes are made again, besides or in place of `mask`; for
                agents that the scene no longer has, see `gaia2.pipelines.agent_tubes`.
            dilation: Pixels that the agents' tubes grow by on each side; a mask is taken as it is.
            num_videos_per_scene: Videos of each scene, from different noise.
            num_inference_steps: Denoising steps of each window.
            timesteps: Flow times of your own in place of the scheduler's grid.
            guidance_scale: See `Gaia2Pipeline`.
            guidance_on: See `Gaia2Pipeline`.
            guidance_region: See `Gaia2Pipeline`.
            guidance_interval: See `Gaia2Pipeline`.
            guider: See `Gaia2Pipeline`.
            num_context_latents: See `Gaia2Pipeline`.
            sample_posterior: Whether the video becomes a sample of its latents, as the paper's, or their mean.
            image_size: Pixels `(hv, wv)` of the video; by default the tokenizer's `sample_size`.
            generator: Random numbers, one or one per video.
            latents: Noise for the masked tokens, `(b, t, n, h, w, c)`.
            output_type: "np", "pt", "pil" or "latent".
            output_latents: Give the latents besides the frames.
            return_dict: Give an output object rather than a tuple.
            callback_on_step_end: See `Gaia2Pipeline`.
            callback_on_step_end_tensor_inputs: See `Gaia2Pipeline`.

        Returns:
            The frames and the scenes as they were used.

        Raises:
            ValueError: If an argument does not fit, or the mask covers nothing or everything; before the first step.
        """
        job = self.validate(
            scene,
            Sampling(
                num_inference_steps,
                timesteps,
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
        wanted = self._token_mask(job, mask, agents, dilation).to(self._execution_device)
        noise = self._all_noise(job, latents)
        encoded = self.encode_frames(frames, job.generator, sample_posterior)
        start = torch.where(wanted[..., None], noise, encoded)

        def begin(first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
            return start[:, first:last], ~wanted[:, first:last]

        rollout = Rollout(self, job, begin)
        made = torch.cat([rollout.start(), *rollout.run()], dim=1)
        return self._finish(job, made, output_type, output_latents, return_dict)

    def _token_mask(
        self,
        job: Job,
        mask: torch.Tensor | np.ndarray | None,
        agents: Sequence[int] | None,
        dilation: int,
    ) -> torch.Tensor:
        """The tokens to make again, `(b, t, n, h, w)`: those that the mask or a tube touches anywhere."""
        if mask is None and agents is None:
            raise ValueError("mask: expected a mask, track ids as agents, or both, got neither")
        b, _, n = job.shape[:3]
        tv, (height, width) = job.scenes[0].num_frames, job.scenes[0].rig.image_size[0].tolist()
        pixels = torch.zeros(b, tv, n, height, width, dtype=torch.bool)
        if mask is not None:
            pixels |= check_mask(mask, pixels.shape, job.videos_per_scene)
        whole_number("dilation", dilation, 0, MAX_SIDE, hint="pixels")
        if agents is not None:
            tubes = [agent_tubes(scene, agents, dilation=dilation) for scene in job.scenes]
            pixels |= torch.from_numpy(np.stack(tubes))
        ratio, rate = self.vae.spatial_compression_ratio, self.vae.frames_per_latent
        tokens = reduce(pixels, "b (t f) n (h r) (w q) -> b t n h w", "max", f=rate, r=ratio, q=ratio)
        share = tokens.float().flatten(1).mean(dim=1)
        for index, covered in enumerate(share.tolist()):
            if covered in (0.0, 1.0):
                what, instead = (
                    ("nothing", "check its place and size")
                    if covered == 0
                    else ("everything", "generate with Gaia2Pipeline instead, or mask less")
                )
                raise ValueError(f"mask: expected one that covers a part of the video, got one that covers {what} "
                                 f"of sample {index}; {instead}")  # fmt: skip
        return tokens


def check_mask(mask: torch.Tensor | np.ndarray, shape: Sequence[int], videos_per_scene: int = 1) -> torch.Tensor:
    """A mask as booleans `(b, tv, n, hv, wv)`.

    Args:
        mask: `(tv, n, hv, wv)` for all samples or `(b, tv, n, hv, wv)`, bool or 0 and 1.
        shape: Of the result.
        videos_per_scene: How often each scene is in the batch, one after the other.

    Raises:
        ValueError: If axes or values do not fit.

    Example:
        >>> check_mask(np.ones((8, 1, 2, 4)), (3, 8, 1, 2, 4)).shape
        torch.Size([3, 8, 1, 2, 4])
    """
    given = as_tensor("mask", mask)
    given = given[None] if given.dim() == 4 else given
    if given.dim() == 5 and len(given) in (1, shape[0] // videos_per_scene):
        given = given.repeat_interleave(shape[0] // len(given), dim=0)
    b, tv, n, hv, wv = shape
    hint = "give one for each frame and camera, at the video's size"
    check_axes("mask", given, "b tv n hv wv", b=b, tv=tv, n=n, hv=hv, wv=wv, hint=hint)
    if given.dtype != torch.bool and not ((given == 0) | (given == 1)).all():
        raise ValueError(
            f"mask: expected booleans, or 0 (stays) and 1 (is made again), got values from {float(given.min()):g} to "
            f"{float(given.max()):g}; compare them with a threshold"
        )
    return given.bool()
