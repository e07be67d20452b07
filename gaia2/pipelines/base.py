"""What the pipelines of all tasks share: components, latents in and out, and the windows of a rollout (paper §5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from einops import rearrange
from tqdm.auto import tqdm
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from gaia2.conditioning.clip import embed_prompts
from gaia2.conditioning.collate import scene_conditioning
from gaia2.conditioning.scene import METADATA, Scene
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.nn.shapes import check_axes
from gaia2.pipelines.denoise import Grid, Window, denoise, windows
from gaia2.pipelines.guidance import Guidance, GuidedVelocity
from gaia2.pipelines.inputs import check_embeddings, check_image_size, check_sampling, check_scenes
from gaia2.pipelines.job import Begin, Job, StepEndCallback
from gaia2.pipelines.labels import agent_region
from gaia2.pipelines.output import Gaia2PipelineOutput, to_output
from gaia2.schedulers.diffusers_adapter import as_flow_scheduler
from gaia2.schedulers.flow_match import Generators
from gaia2.schedulers.path import interpolate


class Gaia2PipelineBase(DiffusionPipeline):
    """Components and the shared steps of the tasks; use one of its subclasses.

    Args:
        vae: Encodes and decodes the video of one camera.
        transformer: Predicts the velocity of latents.
        scheduler: Steps along it: a `FlowMatchScheduler`, or a flow scheduler of diffusers (see
            `gaia2.schedulers.DiffusersFlowAdapter`).
        text_encoder: CLIP's text model, for scenes with a prompt. Optional.
        tokenizer: CLIP's tokenizer, likewise.
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
        self._guidance = Guidance()
        self._num_timesteps = 0
        self._tau: torch.Tensor | None = None

    @property
    def interrupt(self) -> bool:
        """Set by a callback, as `pipe._interrupt = True`, to stop after the step at hand."""
        return self._interrupt

    @property
    def guidance_scale(self) -> float:
        """The guidance scale of the call at hand, or of the last one."""
        return self._guidance.scale

    @property
    def num_timesteps(self) -> int:
        """Network evaluations of a window of the call at hand, or of the last one."""
        return self._num_timesteps

    @property
    def current_timestep(self) -> float | None:
        """Noise level of the step at hand, from 1000 (noise) to 0 (data) as diffusers' step caches expect it."""
        return None if self._tau is None else 1000 * (1 - float(self._tau))

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
        video = rearrange(frames, "b tv n c hv wv -> (b n) c tv hv wv").to(self._execution_device, self.vae.dtype)
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
        return self._from_video(self.vae.rolling_decode(self._to_video(latents)), len(latents))

    def _decode_stream(self, job: Job, parts: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """`decode_latents` for latents that come in parts along t: the frames of each latent once they are final."""
        b, _, n = job.shape[:3]
        for frames in self.vae.decode_stream(map(self._to_video, parts), windows_per_batch=b * n):
            yield self._from_video(frames, b)

    def _to_video(self, latents: torch.Tensor) -> torch.Tensor:
        """The tokenizer's own latents, camera by camera."""
        return self.vae.denormalize(rearrange(latents, "b t n h w c -> (b n) c t h w")).to(self.vae.dtype)

    def _from_video(self, frames: torch.Tensor, b: int) -> torch.Tensor:
        return rearrange(frames.float().clamp(-1, 1), "(b n) c tv hv wv -> b tv n c hv wv", b=b)

    def _check(
        self,
        scene: Scene | Sequence[Scene],
        *,
        num_videos_per_scene: int,
        num_inference_steps: int,
        timesteps: Sequence[float] | None,
        guidance: Guidance,
        num_context_latents: int | None,
        image_size: tuple[int, int] | None,
        output_type: str,
        generator: Generators,
        callback: StepEndCallback | None,
        callback_tensors: Sequence[str],
        begin: float = 0.0,
        context_noise: float = 0.0,
        reanchor: bool = False,
    ) -> Job:
        """Check what all tasks are given, and bring it together."""
        config, ratio, rate = self.transformer.config, self.vae.spatial_compression_ratio, self.vae.frames_per_latent
        image_size = check_image_size(self.vae.config.sample_size if image_size is None else image_size, ratio)
        scenes = check_scenes(scene, rate, num_videos_per_scene)
        check_sampling(
            scenes,
            num_inference_steps=num_inference_steps,
            timesteps=timesteps,
            output_type=output_type,
            generator=generator,
            callback_tensors=callback_tensors,
            known_tensors=self._callback_tensor_inputs,
        )
        guidance.without({}, self._metadata_names)
        overlap = config.window_latents // 2 if num_context_latents is None else num_context_latents
        if not 1 <= overlap < config.window_latents:
            raise ValueError(f"num_context_latents: expected 1 to {config.window_latents - 1}, got {overlap}")
        if not 0 <= context_noise < 1:
            raise ValueError(f"context_noise: expected a noise level from 0 to below 1, got {context_noise}")
        scheduler = as_flow_scheduler(self.scheduler)
        grid = Grid(num_inference_steps, timesteps, begin)
        grid.lay(scheduler)
        self._num_timesteps = len(scheduler.timesteps)
        self._guidance = guidance
        self._interrupt = False
        rig = scenes[0].rig.fit(image_size)
        scenes = [one.replace(rig=rig) for one in scenes]
        conditioned = self._with_clip_embeddings(scenes)
        check_embeddings(conditioned, clip_dim=config.clip_dim, scenario_dim=config.scenario_dim)
        return Job(
            scenes=scenes,
            conditioned=conditioned,
            scheduler=scheduler,
            grid=grid,
            guidance=guidance,
            overlap=overlap,
            shape=(
                len(scenes),
                scenes[0].num_frames // rate,
                rig.num_cameras,
                image_size[0] // ratio,
                image_size[1] // ratio,
                self.vae.config.latent_channels,
            ),
            generator=generator,
            callback=callback,
            callback_tensors=callback_tensors,
            videos_per_scene=num_videos_per_scene,
            context_noise=context_noise,
            reanchor=reanchor,
        )

    def _roll(self, job: Job, given: torch.Tensor, begin: Begin) -> Iterator[torch.Tensor]:
        """Make a video's latents window by window, keeping no more of them than a window.

        Args:
            job: What to do.
            given: Latents at the beginning `(b, t, n, h, w, c)`, maybe none.
            begin: Gives the latents that a window begins with, and its known tokens.

        Yields:
            The given latents, then what each window adds.
        """
        yield given
        recent, window_latents = given, self.transformer.config.window_latents
        plan = list(windows(job.shape[1], window_latents, job.overlap, given.shape[1]))
        with self.progress_bar(total=len(plan) * self._num_timesteps) as progress:
            for index, window in enumerate(plan):
                new, known = begin(window.start + window.context, window.stop)
                context = recent[:, recent.shape[1] - window.context :]
                if index and job.reanchor:
                    context = self.encode_frames(self.decode_latents(context))
                new = self._denoise_window(job, window, self._noised(job, context), new, known, progress)
                recent = torch.cat([recent, new], dim=1)[:, -window_latents:]
                yield new

    def _roll_out(self, job: Job, given: torch.Tensor, begin: Begin) -> torch.Tensor:
        """All latents that `_roll` yields, `(b, t, n, h, w, c)`."""
        return torch.cat(list(self._roll(job, given, begin)), dim=1)

    def _extend(self, job: Job, context: torch.Tensor | None) -> torch.Tensor:
        """Make what comes after context latents in a scene of at most one window; for closed loops."""
        b, t, *rest = job.shape
        context = torch.empty(b, 0, *rest, device=self._execution_device) if context is None else context
        new = self._noise((b, t - context.shape[1], *rest), job.generator)
        treated = self._noised(job, context)
        window = Window(0, t, context.shape[1])
        with self.progress_bar(total=self._num_timesteps) as progress:
            return self._denoise_window(job, window, treated, new, None, progress)

    def _noised(self, job: Job, context: torch.Tensor) -> torch.Tensor:
        if not job.context_noise or not context.shape[1]:
            return context
        noise = self._noise(context.shape, job.generator)
        return interpolate(context, noise, context.new_tensor(1 - job.context_noise))

    def _denoise_window(
        self,
        job: Job,
        window: Window,
        context: torch.Tensor,
        new: torch.Tensor,
        known: torch.Tensor | None,
        progress: tqdm,
    ) -> torch.Tensor:
        known_mask = None
        if window.context or known is not None:
            of_new = torch.zeros(new.shape[:-1], dtype=torch.bool, device=new.device) if known is None else known
            known_mask = torch.cat([torch.ones_like(context[..., 0], dtype=torch.bool), of_new], dim=1)
        if known is not None and known.all():
            progress.update(self._num_timesteps)
            return new

        def on_step(index: int, tau: torch.Tensor, tensors: dict[str, torch.Tensor | None]) -> torch.Tensor:
            progress.update()
            changed = {}
            if job.callback is not None:
                changed = job.callback(self, index, tau, {name: tensors[name] for name in job.callback_tensors}) or {}
            return changed.get("latents", tensors["latents"])  # type: ignore[return-value]

        rate, scenes = self.vae.frames_per_latent, job.conditioned
        if window.stop - window.start < job.shape[1]:
            scenes = [scene.window(window.start * rate, window.stop * rate) for scene in scenes]
        region = None
        if job.guidance.region == "agents" and job.guidance.scale != 1:
            region = agent_region(scenes, rate, (new.shape[3], new.shape[4])).to(new.device)
        velocity_of = GuidedVelocity(
            self.transformer,
            self._conditioning(scenes, max(0, window.context - 1)),
            job.guidance,
            self._metadata_names,
            region,
            known_mask,
        )
        if self.transformer.is_cache_enabled:
            self.transformer._reset_stateful_cache()  # what it holds is of another window

        def interrupted(tau: torch.Tensor) -> bool:
            self._tau = tau
            return self._interrupt

        latents = denoise(
            velocity_of,
            job.scheduler,
            torch.cat([context, new], dim=1),
            job.grid,
            known_mask=known_mask,
            generator=job.generator,
            on_step=on_step,
            interrupted=interrupted,
        )
        return latents[:, window.context :]

    @property
    def _metadata_names(self) -> tuple[str, ...]:
        return tuple(METADATA if self.transformer.config.metadata is None else self.transformer.config.metadata)

    def _conditioning(self, scenes: list[Scene], present_frame: int) -> dict[str, torch.Tensor]:
        """The conditions of one window; the present is its last context latent."""
        config = self.transformer.config
        return scene_conditioning(
            scenes,
            frames_per_latent=self.vae.frames_per_latent,
            max_agents=config.max_agents,
            present_frame=present_frame,
            vocabulary=METADATA if config.metadata is None else config.metadata,
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
                f"transformers and pass both to {type(self).__name__}.from_pretrained, or give scene.clip_embedding"
            )
        embedded = embed_prompts(prompts, self.text_encoder, self.tokenizer, device=self._execution_device)
        embeddings = iter(embedded.cpu().numpy())
        return [
            s if s.prompt is None or s.clip_embedding is not None else s.replace(clip_embedding=next(embeddings))
            for s in scenes
        ]

    def _noise(self, shape: Sequence[int], generator: Generators) -> torch.Tensor:
        """Gaussian noise `(b, t, ...)`, drawn latent time by latent time: a longer video begins with the same noise."""
        b, t, *rest = shape
        times = [randn_tensor((b, *rest), generator=generator, device=self._execution_device) for _ in range(t)]
        return torch.stack(times, dim=1) if times else torch.empty(*shape, device=self._execution_device)

    def _all_noise(self, job: Job, latents: torch.Tensor | None) -> torch.Tensor:
        """Noise for the whole video: the user's, or the same that `Gaia2Pipeline` draws."""
        if latents is None:
            return self._noise(job.shape, job.generator)
        b, t, n, h, w, c = job.shape
        check_axes("latents", latents, "b t n h w c", b=b, t=t, n=n, h=h, w=w, c=c)
        return latents.to(self._execution_device, torch.float32)

    def _finish(
        self, job: Job, latents: torch.Tensor, output_type: str, output_latents: bool, return_dict: bool
    ) -> Gaia2PipelineOutput | tuple[Any, list[Scene]]:
        """Decode sample by sample, so that memory does not grow with the batch, and hand back."""
        frames: Any = latents
        if output_type != "latent":
            decoded = torch.cat([self.decode_latents(sample) for sample in latents.split(1)])
            frames = to_output(decoded, output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return frames, job.scenes
        kept = latents if output_latents else None
        return Gaia2PipelineOutput(frames=frames, scenes=job.scenes, latents=kept)
