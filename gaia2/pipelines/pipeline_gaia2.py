"""Generation from scratch and from context, for any length (paper §5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from einops import rearrange
from PIL import Image
from tqdm.auto import tqdm
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from gaia2._registration import register
from gaia2.conditioning.collate import scene_conditioning
from gaia2.conditioning.scene import METADATA, Scene
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.nn.shapes import check_axes
from gaia2.pipelines.denoise import Window, denoise, windows
from gaia2.pipelines.output import Gaia2PipelineOutput
from gaia2.schedulers.flow_match import FlowMatchScheduler

OUTPUT_TYPES = ("np", "pt", "pil", "latent")
Generators = torch.Generator | list[torch.Generator] | None
StepEndCallback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any] | None]


@register
class Gaia2Pipeline(DiffusionPipeline):
    """Generates multi-camera driving video that obeys a scene (paper §5).

    Without `context` the video is made from noise; with it, its first frames are given and the rest is predicted.
    Videos longer than the world model's window are made window by window, each given the last latents before it.

    Args:
        vae: Encodes and decodes the video of one camera.
        transformer: Predicts the velocity of latents.
        scheduler: Steps along it.
        text_encoder: CLIP's text model, for scenes with a prompt. Optional.
        tokenizer: CLIP's tokenizer, likewise.

    Example:
        >>> import gaia2
        >>> pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
        >>> pipe.set_progress_bar_config(disable=True)
        >>> scene = gaia2.Scene.create(speed=10.0, weather="snow", time_of_day="day", num_frames=8)
        >>> pipe(scene, num_inference_steps=2).frames.shape
        (1, 8, 5, 64, 128, 3)
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _optional_components = ["text_encoder", "tokenizer"]
    _callback_tensor_inputs = ["latents"]

    def __init__(
        self,
        vae: VideoTokenizer,
        transformer: WorldModel,
        scheduler: FlowMatchScheduler,
        text_encoder: CLIPTextModelWithProjection | None = None,
        tokenizer: CLIPTokenizer | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            transformer=transformer,
            scheduler=scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
        )
        self._interrupt = False

    @property
    def interrupt(self) -> bool:
        """Set by a callback to stop after the step at hand."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        scene: Scene | Sequence[Scene],
        *,
        context: torch.Tensor | np.ndarray | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 1.0,
        num_context_latents: int | None = None,
        image_size: tuple[int, int] | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: StepEndCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Gaia2PipelineOutput | tuple[Any, list[Scene]]:
        """Generate.

        Args:
            scene: What to generate, or a list of scenes of equal length and number of cameras. Their frames are a
                multiple of the tokenizer's `frames_per_latent`.
            context: The first frames, uint8 or float in [-1, 1], `(tv, n, 3, hv, wv)` or `(b, tv, n, 3, hv, wv)`;
                a multiple of `frames_per_latent`, fewer than the scene has.
            num_inference_steps: Denoising steps of each window (paper: 50).
            guidance_scale: Classifier-free guidance over all conditions; 1 is none.
            num_context_latents: Latents a window takes over from the one before (paper: 3 of 6); half of the window
                by default.
            image_size: Pixels `(hv, wv)`; by default the size that the models were trained at, the tokenizer's
                `sample_size`. The scene's rig is cropped and scaled to it.
            generator: Random numbers, one or one per scene.
            latents: Noise to begin with, `(b, t, n, h, w, c)`.
            output_type: "np", "pt", "pil" or "latent".
            return_dict: Give an output object rather than a tuple.
            callback_on_step_end: Called as `f(pipe, step, timestep, {"latents": ...})` after each step of a window;
                a returned dict may hold other latents.
            callback_on_step_end_tensor_inputs: Names of the tensors the callback gets; "latents" is the one there is.

        Returns:
            The frames and the scenes as they were used.

        Raises:
            ValueError: If an argument does not fit; before the first step.
        """
        scenes = [scene] if isinstance(scene, Scene) else list(scene)
        image_size = self._image_size(image_size)
        self._check_inputs(scenes, num_inference_steps, guidance_scale, output_type, generator)
        scenes = [s.replace(rig=s.rig.fit(image_size)) for s in scenes]
        self._check_callback(callback_on_step_end_tensor_inputs)
        conditioned = self._with_clip_embeddings(scenes)
        shape = self._latent_shape(scenes, image_size)
        context_latents = self._encode_context(context, scenes, image_size, generator)
        given = 0 if context_latents is None else context_latents.shape[1]
        overlap = self._overlap(num_context_latents)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=torch.float32)
        else:
            b, t, n, h, w, c = shape
            check_axes("latents", latents, "b t n h w c", b=b, t=t, n=n, h=h, w=w, c=c)
            latents = latents.to(self._execution_device, torch.float32)
        if context_latents is not None:
            latents = torch.cat([context_latents, latents[:, given:]], dim=1)

        self._interrupt = False
        plan = list(windows(shape[1], self.transformer.config.window_latents, overlap, given))
        with self.progress_bar(total=len(plan) * num_inference_steps) as progress:
            for window in plan:
                part = self._generate_window(
                    latents[:, window.start : window.stop],
                    self._conditioning(conditioned, window),
                    window,
                    num_inference_steps,
                    guidance_scale,
                    progress,
                    callback_on_step_end,
                )
                latents = torch.cat([latents[:, : window.start], part, latents[:, window.stop :]], dim=1)
                if self._interrupt:
                    break

        frames = latents if output_type == "latent" else self._to_output(self._decode(latents), output_type)
        self.maybe_free_model_hooks()
        return Gaia2PipelineOutput(frames=frames, scenes=scenes) if return_dict else (frames, scenes)

    def encode_frames(self, frames: torch.Tensor, generator: Generators = None) -> torch.Tensor:
        """Encode multi-camera video to normalised latents.

        Args:
            frames: `(b, tv, n, 3, hv, wv)` in [-1, 1].
            generator: Random numbers for the sample of the latent distribution, one or one per sample; without one
                the mean is taken.

        Returns:
            `(b, t, n, h, w, c)`.
        """
        b = frames.shape[0]
        video = rearrange(frames, "b tv n c hv wv -> (b n) c tv hv wv").to(self.vae.device, self.vae.dtype)
        latent_dist = self.vae.encode(video, return_dict=False)[0]
        latents = latent_dist.mean
        if generator is not None:
            generators = generator if isinstance(generator, list) else [generator]
            if len(generators) not in (1, b):
                raise ValueError(f"generator: expected one, or one for each of {b} samples, got {len(generators)}")
            shape = (len(latents) // len(generators), *latents.shape[1:])
            noise = [randn_tensor(shape, generator=g, device=latents.device, dtype=latents.dtype) for g in generators]
            latents = latents + latent_dist.std * torch.cat(noise)
        return rearrange(self.vae.normalize(latents.float()), "(b n) c t h w -> b t n h w c", b=b)

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode normalised latents `(b, t, n, h, w, c)` to frames `(b, tv, n, 3, hv, wv)` in [-1, 1]."""
        b = latents.shape[0]
        video = self.vae.denormalize(rearrange(latents, "b t n h w c -> (b n) c t h w"))
        frames = self.vae.rolling_decode(video.to(self.vae.dtype)).float().clamp(-1, 1)
        return rearrange(frames, "(b n) c tv hv wv -> b tv n c hv wv", b=b)

    def _generate_window(
        self,
        latents: torch.Tensor,
        conditioning: dict[str, torch.Tensor],
        window: Window,
        num_inference_steps: int,
        guidance_scale: float,
        progress: tqdm,
        callback: StepEndCallback | None,
    ) -> torch.Tensor:
        known_mask = None
        if window.context:
            is_known = torch.arange(latents.shape[1], device=latents.device) < window.context
            known_mask = rearrange(is_known, "t -> 1 t 1 1 1").expand(latents.shape[:-1])

        def on_step(index: int, tau: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
            progress.update()
            if callback is not None:
                latents = (callback(self, index, tau, {"latents": latents}) or {}).get("latents", latents)
            return latents

        return denoise(
            self.transformer,
            self.scheduler,
            latents,
            conditioning,
            num_inference_steps=num_inference_steps,
            known_mask=known_mask,
            guidance_scale=guidance_scale,
            on_step=on_step,
            interrupted=lambda: self._interrupt,
        )

    def _conditioning(self, scenes: list[Scene], window: Window) -> dict[str, torch.Tensor]:
        """The conditions of one window; the present is its last context latent."""
        rate, vocabulary = self.vae.frames_per_latent, self.transformer.config.metadata
        return scene_conditioning(
            [scene.window(window.start * rate, window.stop * rate) for scene in scenes],
            frames_per_latent=rate,
            max_agents=self.transformer.config.max_agents,
            present_frame=max(0, window.context - 1),
            vocabulary=METADATA if vocabulary is None else vocabulary,
            device=self._execution_device,
        )

    def _with_clip_embeddings(self, scenes: list[Scene]) -> list[Scene]:
        """Scenes with the embedding of their prompt, unless they bring an embedding of their own."""
        prompts = [s.prompt for s in scenes if s.prompt is not None and s.clip_embedding is None]
        if not prompts:
            return scenes
        if self.text_encoder is None or self.tokenizer is None:
            raise ValueError(
                "prompt: expected a pipeline with text_encoder and tokenizer, got one without; load CLIP with "
                "transformers and pass both to Gaia2Pipeline.from_pretrained, or give scene.clip_embedding"
            )
        tokens = self.tokenizer(prompts, padding=True, truncation=True, return_tensors="pt")
        embeddings = iter(self.text_encoder(**tokens.to(self.text_encoder.device)).text_embeds.float().cpu().numpy())
        return [
            s if s.prompt is None or s.clip_embedding is not None else s.replace(clip_embedding=next(embeddings))
            for s in scenes
        ]

    def _encode_context(
        self,
        context: torch.Tensor | np.ndarray | None,
        scenes: list[Scene],
        image_size: tuple[int, int],
        generator: Generators,
    ) -> torch.Tensor | None:
        if context is None:
            return None
        context = torch.as_tensor(context)
        context = context[None] if context.dim() == 5 else context
        height, width = image_size
        check_axes(
            "context",
            context,
            "b tv n c hv wv",
            b=len(scenes),
            n=scenes[0].rig.num_cameras,
            c=3,
            hv=height,
            wv=width,
            hint="give one frame of each camera of the rig, at the pipeline's image size",
        )
        rate, available = self.vae.frames_per_latent, scenes[0].num_frames
        if context.shape[1] % rate or not 0 < context.shape[1] < available:
            raise ValueError(
                f"context: expected a multiple of {rate} frames, fewer than the scene's {available}, "
                f"got {context.shape[1]}; cut the context or lengthen the scene"
            )
        if context.dtype == torch.uint8:
            context = context.float() / 127.5 - 1
        elif not -1.001 <= float(context.min()) <= float(context.max()) <= 1.001:
            raise ValueError(
                f"context: expected uint8, or float in [-1, 1], got values from {float(context.min()):.3g} to "
                f"{float(context.max()):.3g}; scale them"
            )
        return self.encode_frames(context.to(self._execution_device), generator).to(self._execution_device)

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode sample by sample, so that memory does not grow with the batch; frames in [0, 1]."""
        return torch.cat([self.decode_latents(sample) for sample in latents.split(1)]) / 2 + 0.5

    def _to_output(self, frames: torch.Tensor, output_type: str) -> np.ndarray | torch.Tensor | list[Any]:
        frames = rearrange(frames, "b tv n c hv wv -> b tv n hv wv c").cpu()
        if output_type == "pt":
            return frames
        if output_type == "np":
            return frames.numpy()
        pixels = (frames * 255).round().to(torch.uint8).numpy()
        return [[[Image.fromarray(image) for image in cameras] for cameras in video] for video in pixels]

    def _image_size(self, image_size: tuple[int, int] | None) -> tuple[int, int]:
        height, width = self.vae.config.sample_size if image_size is None else image_size
        ratio = self.vae.spatial_compression_ratio
        if min(height, width) < ratio or height % ratio or width % ratio:
            raise ValueError(f"image_size: expected a height and width that are multiples of {ratio}, got {image_size}")
        return height, width

    def _latent_shape(self, scenes: list[Scene], image_size: tuple[int, int]) -> tuple[int, ...]:
        ratio, rate = self.vae.spatial_compression_ratio, self.vae.frames_per_latent
        return (
            len(scenes),
            scenes[0].num_frames // rate,
            scenes[0].rig.num_cameras,
            image_size[0] // ratio,
            image_size[1] // ratio,
            self.vae.config.latent_channels,
        )

    def _overlap(self, num_context_latents: int | None) -> int:
        window = self.transformer.config.window_latents
        overlap = window // 2 if num_context_latents is None else num_context_latents
        if not 1 <= overlap < window:
            raise ValueError(f"num_context_latents: expected 1 to {window - 1}, got {overlap}")
        return overlap

    def _check_callback(self, names: Sequence[str]) -> None:
        unknown = set(names) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs: expected some of {self._callback_tensor_inputs}, "
                f"got {sorted(unknown)}"
            )

    def _check_inputs(
        self,
        scenes: list[Scene],
        num_inference_steps: int,
        guidance_scale: float,
        output_type: str,
        generator: Generators,
    ) -> None:
        if not scenes:
            raise ValueError("scene: expected a Scene or a list of them, got an empty list")
        for scene in scenes:
            if not isinstance(scene, Scene):
                raise ValueError(f"scene: expected a gaia2.Scene, got {type(scene).__name__}; make one: Scene.create()")
        rate = self.vae.frames_per_latent
        frames = scenes[0].num_frames
        if frames % rate or not frames:
            above = -(-max(frames, 1) // rate) * rate
            raise ValueError(
                f"scene: expected a multiple of {rate} frames, got {frames}; use {above}, e.g. with scene.resample"
            )
        shapes = {(scene.num_frames, scene.rig.num_cameras) for scene in scenes}
        if len(shapes) > 1:
            raise ValueError(
                f"scene: expected scenes of one length and number of cameras, got {sorted(shapes)} (frames, cameras); "
                "call the pipeline once for each"
            )
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps: expected at least 1, got {num_inference_steps}")
        if guidance_scale < 0:
            raise ValueError(f"guidance_scale: expected at least 0, got {guidance_scale}; 1 is no guidance")
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type: expected one of {OUTPUT_TYPES}, got {output_type!r}")
        if isinstance(generator, list) and len(generator) != len(scenes):
            raise ValueError(f"generator: expected one, or one for each of {len(scenes)} scenes, got {len(generator)}")
