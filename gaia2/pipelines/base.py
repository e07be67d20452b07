"""What the pipelines of all tasks share: components, checking a call, frames to latents and back (paper §5)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from einops import rearrange
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from gaia2._registration import recorded
from gaia2.conditioning.clip_embedding import embed_prompts
from gaia2.conditioning.collate import scene_conditioning
from gaia2.hub.loading import download_pipeline, no_pickles
from gaia2.hub.mixin import HubMixin
from gaia2.models.strict_loading import DAMAGES, check_source, loading_error
from gaia2.models.trained_range import outside
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.pipelines.finite import check_finite
from gaia2.pipelines.guidance import Guidance, check_default_scale
from gaia2.pipelines.inputs import (
    check_call,
    check_components,
    check_image_size,
    check_noise,
    check_prompts,
    check_registered,
    check_scenes,
)
from gaia2.pipelines.job import Job, StepEndCallback
from gaia2.pipelines.lora import LoraLoaderMixin
from gaia2.pipelines.output import Gaia2PipelineOutput, to_output
from gaia2.pipelines.sampling import Sampling
from gaia2.pipelines.state import CallState, CallStateMixin
from gaia2.scene import Scene
from gaia2.schedulers.flow_match import Generators


class Gaia2PipelineBase(HubMixin, CallStateMixin, LoraLoaderMixin, DiffusionPipeline):
    """Components and the shared steps of the tasks; use one of its subclasses.

    A call takes them in the order of this file: `validate`; `encode_frames` and `noise`; a `Rollout`, which asks for
    `embed_prompts` once and for the `conditioning` of each window; `decode_latents`; a `Gaia2PipelineOutput`.

    Args:
        vae: Encodes and decodes the video of one camera.
        transformer: Predicts the velocity of latents.
        scheduler: Steps along it: a `FlowMatchScheduler`, or a flow scheduler of diffusers (see
            `gaia2.schedulers.DiffusersFlowAdapter`). Calls step copies of it.
        text_encoder: CLIP's text model, for scenes with a prompt. Optional.
        tokenizer: CLIP's tokenizer, likewise.
        default_guidance_scale: Classifier-free guidance of calls that do not say their own, 0 to 1000; 1 is none, as in
            the paper. It is kept in `config`, saved and loaded with the pipeline.

    Raises:
        ValueError: If the tokenizer's encoder and decoder disagree in frames of a latent, or tokenizer and transformer
            in channels of a latent, or the scale is out of range.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _optional_components = ["text_encoder", "tokenizer"]
    _callback_tensor_inputs = ["latents", "velocity", "known_mask"]

    def __init__(
        self,
        vae: VideoTokenizer,
        transformer: WorldModel,
        scheduler: SchedulerMixin,
        text_encoder: CLIPTextModelWithProjection | None = None,
        tokenizer: CLIPTokenizer | None = None,
        default_guidance_scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_components(vae, transformer)
        self.register_modules(
            vae=vae,
            transformer=transformer,
            scheduler=scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
        )
        self.register_to_config(default_guidance_scale=default_guidance_scale)
        self._state = CallState(Guidance(self.config.default_guidance_scale))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str], **kwargs: Any) -> Self:
        """Load a pipeline from a folder or the hub; see diffusers.

        Args:
            pretrained_model_name_or_path: The folder, or the id of a repository.
            **kwargs: diffusers' own options, and components in place of those there.

        Raises:
            ValueError: If there is no such folder or repository, or what is in it is incomplete, damaged, a pickle or
                of another kind.
            ConnectionError: If a repository is neither in the cache nor to be reached.
        """
        check_source(pretrained_model_name_or_path)
        kwargs = no_pickles(pretrained_model_name_or_path, kwargs)
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except DAMAGES as error:
            raise loading_error(pretrained_model_name_or_path, cls.__name__, error) from None

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs: Any) -> str | PathLike[str]:
        """Download a pipeline into the cache; see diffusers.

        Args:
            pretrained_model_name: Id of the repository.
            **kwargs: diffusers' own options.

        Returns:
            Folder in the cache.

        Raises:
            ValueError: If it is no pipeline of this library, holds a pickle, has no such revision or variant, or a
                file was cut.
            ConnectionError: If it is neither in the cache nor to be reached.
        """
        return download_pipeline(pretrained_model_name, super().download, kwargs)

    def register_to_config(self, **entries: Any) -> None:
        """Record components and options, as diffusers does; a class with `gaia2.register` as one of `gaia2`.

        Raises:
            ValueError: If `default_guidance_scale` is out of range.
        """
        pairs = {k: recorded(*v) if isinstance(v, tuple) and len(v) == 2 else v for k, v in entries.items()}
        if "default_guidance_scale" in pairs:
            pairs["default_guidance_scale"] = check_default_scale(pairs["default_guidance_scale"])
        super().register_to_config(**pairs)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save all components and their classes' names; see diffusers.

        Raises:
            ValueError: If a component is of a class that `from_pretrained` would not find.
        """
        self.register_to_config(**{k: tuple(self.config[k]) for k in ("vae", "transformer", "scheduler")})
        check_registered({k: self.config[k] for k in ("vae", "transformer", "scheduler")})
        super().save_pretrained(save_directory, *args, **kwargs)

    if TYPE_CHECKING:  # diffusers' own says less of what it gives

        @classmethod
        def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> Self: ...  # noqa: D102

    def validate(
        self,
        scene: Scene | Sequence[Scene],
        sampling: Sampling | None = None,
        *,
        num_videos_per_scene: int = 1,
        image_size: tuple[int, int] | None = None,
        generator: Generators = None,
        callback: StepEndCallback | None = None,
        callback_tensors: Sequence[str] = ("latents",),
        output_type: str = "np",
    ) -> Job:
        """Check what all tasks are given, and bring it together; computes nothing and changes nothing.

        Args:
            scene: What to generate, or a list of scenes of one length and rig.
            sampling: How to sample; `Sampling()` by default. A guidance scale that it leaves open is the checkpoint's.
            num_videos_per_scene: Videos of each scene.
            image_size: Pixels `(hv, wv)`; by default the tokenizer's `sample_size`.
            generator: Random numbers, one or one per video.
            callback: Called after each step; see `Gaia2Pipeline`.
            callback_tensors: Names of the tensors the callback gets.
            output_type: "np", "pt", "pil" or "latent".

        Returns:
            What a `Rollout` makes.

        Raises:
            ValueError: If an argument does not fit, or the components do not fit together.
        """
        vae, config, sampling = self.vae, self.transformer.config, sampling or Sampling()
        sampling = replace(sampling, guidance=sampling.guidance.with_default(self.config.default_guidance_scale))
        check_components(vae, self.transformer)
        ratio = vae.spatial_compression_ratio
        size = check_image_size(vae.config.sample_size if image_size is None else image_size, ratio)
        scenes = self.fit_scenes(scene, num_videos_per_scene, size)
        untrained = self.transformer.untrained(scenes)
        if untrained:
            warnings.warn(
                f"scene: expected conditions that the world model was trained on, got {', '.join(untrained)}, which it "
                "cannot obey; leave them out",
                stacklevel=3,
            )
        beyond = self._beyond_training(scenes, size)
        if beyond:
            warnings.warn(
                f"scene: expected what the models were trained at, got {' and '.join(beyond)}; look at the result with "
                "care",
                stacklevel=3,
            )
        check_call(
            scenes,
            output_type=output_type,
            generator=generator,
            callback=callback,
            callback_tensors=callback_tensors,
            known_tensors=self._callback_tensor_inputs,
        )
        sampling.guidance.without({}, self.transformer.conditions)
        sampling.overlap(config.window_latents)
        return Job(
            scenes=scenes,
            shape=(
                len(scenes),
                scenes[0].num_frames // vae.frames_per_latent,
                scenes[0].rig.num_cameras,
                size[0] // ratio,
                size[1] // ratio,
                vae.config.latent_channels,
            ),
            sampling=sampling,
            scheduler=sampling.lay(self.scheduler, self._execution_device),
            generator=generator,
            callback=callback,
            callback_tensors=callback_tensors,
            videos_per_scene=num_videos_per_scene,
        )

    def _beyond_training(self, scenes: Sequence[Scene], size: tuple[int, int]) -> list[str]:
        """In words, what asks for more than the models' configs say that they were trained at."""
        known, rate = self.transformer.config.trained_range, self.vae.frames_per_latent
        seconds = [s.duration / (s.num_frames - 1) * rate if s.num_frames > rate else float("nan") for s in scenes]
        beyond = outside(known, scenes[0].rig.num_cameras, seconds)
        if any(asked > seen for asked, seen in zip(size, self.vae.config.sample_size, strict=True)):
            trained = "x".join(map(str, self.vae.config.sample_size))
            beyond.append(f"frames of {size[0]}x{size[1]} pixels, where they know {trained}")
        return beyond

    def fit_scenes(
        self, scene: Scene | Sequence[Scene], num_videos_per_scene: int, image_size: tuple[int, int]
    ) -> list[Scene]:
        """The batch of scenes, their rig at the size of the frames `(hv, wv)`, checked.

        Raises:
            ValueError: If the scenes do not make a batch, or say what the world model cannot take.
        """
        scenes = check_scenes(scene, self.vae.frames_per_latent, num_videos_per_scene)
        self.transformer.conditions.check_scenes(scenes)
        self._check_prompts(scenes)
        rig = scenes[0].rig.fit(image_size)
        return [one.replace(rig=rig) for one in scenes]

    def encode_frames(
        self, frames: torch.Tensor, generator: Generators = None, sample_posterior: bool = True
    ) -> torch.Tensor:
        """Encode multi-camera video to normalised latents, sampled from the encoder's Gaussian (paper §2.1.1).

        Args:
            frames: `(b, tv, n, 3, hv, wv)` in [-1, 1].
            generator: Random numbers of the sample, one or one per video.
            sample_posterior: Whether to sample; else the mean is taken, the same at every call.

        Returns:
            `(b, t, n, h, w, c)`.
        """
        b = frames.shape[0]
        video = rearrange(frames, "b tv n c hv wv -> (b n) c tv hv wv").to(self._execution_device, self.vae.dtype)
        latent_dist = self.vae.encode(video, return_dict=False)[0]
        latents = latent_dist.mean
        if sample_posterior:
            generators = generator if isinstance(generator, list) else [generator]
            if len(generators) not in (1, b):
                raise ValueError(f"generator: expected one, or one for each of {b} samples, got {len(generators)}")
            shape = (len(latents) // len(generators), *latents.shape[1:])
            noise = [randn_tensor(shape, generator=g, device=latents.device, dtype=latents.dtype) for g in generators]
            latents = latents + latent_dist.std * torch.cat(noise)
        return rearrange(self.vae.normalize(latents.float()), "(b n) c t h w -> b t n h w c", b=b)

    def noise(self, shape: Sequence[int], generator: Generators = None) -> torch.Tensor:
        """Gaussian noise `(b, t, ...)`, drawn latent time by latent time: a longer video begins with the same noise."""
        b, t, *rest = shape
        times = [randn_tensor((b, *rest), generator=generator, device=self._execution_device) for _ in range(t)]
        return torch.stack(times, dim=1) if times else torch.empty(*shape, device=self._execution_device)

    def _all_noise(self, job: Job, latents: torch.Tensor | None) -> torch.Tensor:
        """Noise for the whole video: the user's, or the same that `Gaia2Pipeline` draws."""
        if latents is None:
            return self.noise(job.shape, job.generator)
        check_noise(latents, job.shape)
        return latents.to(self._execution_device, torch.float32)

    def embed_prompts(self, scenes: Sequence[Scene]) -> list[Scene]:
        """Scenes with the embedding of their prompt, unless they bring an embedding of their own.

        Raises:
            ValueError: If there is a prompt and no CLIP, or one of another width than the world model's.
        """
        self._check_prompts(scenes)
        prompts = [s.prompt for s in scenes if s.prompt is not None and s.clip_embedding is None]
        if not prompts:
            return list(scenes)
        embedded = embed_prompts(prompts, self.text_encoder, self.tokenizer, device=self._execution_device)
        embeddings = iter(embedded.cpu().numpy())
        return [
            s if s.prompt is None or s.clip_embedding is not None else s.replace(clip_embedding=next(embeddings))
            for s in scenes
        ]

    def _check_prompts(self, scenes: Sequence[Scene]) -> None:
        clip_dim, own = self.transformer.config.clip_dim, type(self).__name__
        check_prompts(scenes, self.text_encoder, self.tokenizer, clip_dim=clip_dim, pipeline=own)

    def conditioning(self, scenes: Sequence[Scene], present_frame: int) -> dict[str, torch.Tensor]:
        """The world model's conditions of one window; the present is the latent time `present_frame`."""
        return scene_conditioning(
            scenes,
            frames_per_latent=self.vae.frames_per_latent,
            present_frame=present_frame,
            conditions=self.transformer.conditions,
            device=self._execution_device,
        )

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode normalised latents `(b, t, n, h, w, c)` to frames `(b, tv, n, 3, hv, wv)` in [-1, 1]."""
        return self._from_video(self.vae.rolling_decode(self._to_video(latents)), len(latents))

    def _decode_stream(self, parts: Iterable[torch.Tensor], shape: Sequence[int]) -> Iterator[torch.Tensor]:
        """`decode_latents` for latents that come in parts along t: the frames of each latent once they are final."""
        b, _, n = shape[:3]
        for frames in self.vae.decode_stream(map(self._to_video, parts), windows_per_batch=b * n):
            yield self._from_video(frames, b)

    def _to_video(self, latents: torch.Tensor) -> torch.Tensor:
        """The tokenizer's own latents, camera by camera."""
        return self.vae.denormalize(rearrange(latents, "b t n h w c -> (b n) c t h w")).to(self.vae.dtype)

    def _from_video(self, frames: torch.Tensor, b: int) -> torch.Tensor:
        return rearrange(frames.float().clamp(-1, 1), "(b n) c tv hv wv -> b tv n c hv wv", b=b)

    def _finish(
        self, job: Job, latents: torch.Tensor, output_type: str, output_latents: bool, return_dict: bool
    ) -> Gaia2PipelineOutput | tuple[Any, list[Scene]]:
        """Decode sample by sample, so that memory does not grow with the batch, and hand back."""
        frames: Any = latents
        check_finite("latents", latents, self, job.sampling.guidance.scale)
        if output_type != "latent":
            decoded = torch.cat([self.decode_latents(sample) for sample in latents.split(1)])
            check_finite("frames", decoded, self)
            frames = to_output(decoded, output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return frames, job.scenes
        kept = latents if output_latents else None
        return Gaia2PipelineOutput(frames=frames, scenes=job.scenes, latents=kept)
