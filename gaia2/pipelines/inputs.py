"""Checks of what a user gives to the pipelines, all before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gaia2._checks import one_of, refuse, whole_number
from gaia2.nn.shapes import check_axes, check_floats
from gaia2.scene import Scene
from gaia2.schedulers.checks import check_generator
from gaia2.video.pixels import from_uint8

MAX_VIDEOS = 1024
MAX_SIDE = 16_384
OUTPUT_TYPES = ("np", "pt", "pil", "latent")


def check_scenes(scene: Scene | Sequence[Scene], frames_per_latent: int, num_videos_per_scene: int) -> list[Scene]:
    """The batch of scenes: a list, each as often as it is to be generated.

    Raises:
        ValueError: If there is none, their frames do not fill latents, or they differ in length or rig.
    """
    if not isinstance(scene, Scene | list | tuple):
        raise refuse("scene", "a gaia2.Scene or a list of them", scene, "make one: Scene.create()")
    whole_number("num_videos_per_scene", num_videos_per_scene, 1, MAX_VIDEOS)
    scenes = [scene] if isinstance(scene, Scene) else list(scene)
    if not scenes:
        raise ValueError("scene: expected a Scene or a list of them, got an empty list")
    for one in scenes:
        if not isinstance(one, Scene):
            raise ValueError(f"scene: expected a gaia2.Scene, got {type(one).__name__}; make one: Scene.create()")
    frames = scenes[0].num_frames
    if frames % frames_per_latent:
        above = -(-frames // frames_per_latent) * frames_per_latent
        raise ValueError(
            f"scene: expected a multiple of {frames_per_latent} frames, got {frames}; use {above}, e.g. with "
            "scene.resample"
        )
    shapes = {(one.num_frames, one.rig.num_cameras) for one in scenes}
    if len(shapes) > 1:
        raise ValueError(
            f"scene: expected scenes of one length and number of cameras, got {sorted(shapes)} (frames, cameras); "
            "call the pipeline once for each"
        )
    for index, one in enumerate(scenes):
        if one.rig != scenes[0].rig:
            raise ValueError(
                f"scene: expected scenes of one rig in a batch, got another one in scene {index} "
                f"({', '.join(one.rig.names)}) than in scene 0 ({', '.join(scenes[0].rig.names)}); call the pipeline "
                "once for each rig"
            )
    return [one for one in scenes for _ in range(num_videos_per_scene)]


def as_tensor(name: str, values: Any) -> torch.Tensor:
    """A tensor of what may be an array.

    Raises:
        ValueError: If it is neither.
    """
    if not isinstance(values, torch.Tensor | np.ndarray):
        raise refuse(name, "a torch.Tensor or a NumPy array", values)
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise refuse(name, "numbers", values) from None


def check_video(
    name: str, video: torch.Tensor | np.ndarray, scenes: Sequence[Scene], videos_per_scene: int = 1
) -> torch.Tensor:
    """Check frames and bring them to float in [-1, 1].

    Args:
        name: The argument's name, for messages.
        video: `(tv, n, 3, hv, wv)` or `(b, tv, n, 3, hv, wv)`, uint8 or float in [-1, 1]; one for all scenes, one for
            each, or one for each before they were repeated.
        scenes: The batch, at the size of the frames.
        videos_per_scene: How often each scene is in the batch, one after the other.

    Returns:
        `(b, tv, n, 3, hv, wv)`.

    Raises:
        ValueError: If axes or values do not fit.
    """
    frames = as_tensor(name, video)
    frames = frames[None] if frames.dim() == 5 else frames
    b = len(scenes)
    if frames.dim() == 6 and len(frames) in (1, b // videos_per_scene):
        frames = frames.repeat_interleave(b // len(frames), dim=0)
    height, width = scenes[0].rig.image_size[0].tolist()
    check_axes(
        name,
        frames,
        "b tv n c hv wv",
        b=b,
        n=scenes[0].rig.num_cameras,
        c=3,
        hv=height,
        wv=width,
        hint="give one frame of each camera of the rig, at the pipeline's image size",
    )
    if frames.dtype == torch.uint8:
        return from_uint8(frames)
    if not frames.is_floating_point():
        raise ValueError(f"{name}: expected uint8, or float in [-1, 1], got {frames.dtype}; convert it")
    if frames.numel() and not -1.001 <= float(frames.min()) <= float(frames.max()) <= 1.001:
        raise ValueError(
            f"{name}: expected uint8, or float in [-1, 1], got values from {float(frames.min()):.3g} to "
            f"{float(frames.max()):.3g}; scale them"
        )
    return frames.float()


def check_whole_video(
    video: torch.Tensor | np.ndarray, scenes: Sequence[Scene], videos_per_scene: int = 1
) -> torch.Tensor:
    """`check_video` for a video that the scene describes frame by frame."""
    frames = check_video("video", video, scenes, videos_per_scene)
    if frames.shape[1] != scenes[0].num_frames:
        raise ValueError(
            f"video: expected {scenes[0].num_frames} frames, one for each of the scene's timestamps, got "
            f"{frames.shape[1]}; cut the video, or take a scene of its length"
        )
    return frames


def check_context(
    context: torch.Tensor | np.ndarray,
    scenes: Sequence[Scene],
    videos_per_scene: int = 1,
    *,
    frames_per_latent: int,
    window_latents: int,
) -> torch.Tensor:
    """`check_video` for the first frames of a video: whole latents, fewer than the scene and than a window."""
    frames = check_video("context", context, scenes, videos_per_scene)
    given, available = frames.shape[1], scenes[0].num_frames
    if given % frames_per_latent or not 0 < given < available:
        raise ValueError(
            f"context: expected a multiple of {frames_per_latent} frames, fewer than the scene's {available}, "
            f"got {given}; cut the context or lengthen the scene"
        )
    most = (window_latents - 1) * frames_per_latent
    if given > most:
        raise ValueError(
            f"context: expected at most {most} frames, as a window is {window_latents} latents of {frames_per_latent} "
            f"frames and must have room for a new one, got {given}; give the last {most} and the scene from there on"
        )
    return frames


def check_image_size(image_size: tuple[int, int], ratio: int) -> tuple[int, int]:
    """Pixels `(height, width)`, if both are multiples of the tokenizer's spatial compression."""
    if not isinstance(image_size, tuple | list) or len(image_size) != 2:
        raise refuse("image_size", f"a height and width that are multiples of {ratio}", image_size)
    height, width = (whole_number("image_size", side, ratio, MAX_SIDE) for side in image_size)
    if height % ratio or width % ratio:
        raise ValueError(f"image_size: expected a height and width that are multiples of {ratio}, got {image_size}")
    return height, width


def check_noise(latents: torch.Tensor, shape: Sequence[int]) -> None:
    """Check that the user's noise has the axes of the job's latents.

    Raises:
        ValueError: If it has not.
    """
    b, t, n, h, w, c = shape
    check_floats("latents", latents, "b t n h w c", b=b, t=t, n=n, h=h, w=w, c=c)


def check_call(
    scenes: Sequence[Scene],
    *,
    output_type: str,
    generator: Any,
    callback: Any,
    callback_tensors: Sequence[str],
    known_tensors: Sequence[str],
) -> None:
    """Check the arguments that all tasks have besides scene and sampling.

    Raises:
        ValueError: If one is out of range.
    """
    one_of("output_type", output_type, OUTPUT_TYPES)
    check_generator(generator, len(scenes))
    if callback is not None and not callable(callback):
        raise refuse("callback_on_step_end", "a function of pipe, step, timestep and tensors, or None", callback)
    listed = callback_tensors if isinstance(callback_tensors, list | tuple) else [callback_tensors]
    unknown = [name for name in listed if name not in known_tensors]
    if unknown:
        raise refuse("callback_on_step_end_tensor_inputs", f"some of {list(known_tensors)}", unknown)


def check_prompts(scenes: Sequence[Scene], text_encoder: Any, tokenizer: Any, *, clip_dim: int, pipeline: str) -> None:
    """Check that CLIP is there for prompts without an embedding, and makes embeddings of the trained width.

    Raises:
        ValueError: If it is not, or does not.
    """
    if all(scene.prompt is None or scene.clip_embedding is not None for scene in scenes):
        return
    if text_encoder is None or tokenizer is None:
        raise ValueError(
            "prompt: expected a pipeline with text_encoder and tokenizer, got one without; load CLIP with "
            f"transformers and pass both to {pipeline}.from_pretrained, or give scene.clip_embedding"
        )
    width = text_encoder.config.projection_dim
    if width != clip_dim:
        raise ValueError(
            f"text_encoder: expected embeddings of {clip_dim} numbers, as the world model was trained with, got "
            f"{width}; load the CLIP of its training"
        )


def check_components(vae: Any, transformer: Any) -> None:
    """Check that tokenizer and world model speak of the same latents; a component may be None, as diffusers allows.

    Raises:
        ValueError: If the tokenizer's decoder makes more or fewer frames of a latent than its encoder takes, or the
            world model has another number of latent channels.
    """
    for name, component, method, kind in (
        ("vae", vae, "rolling_decode", "VideoTokenizer"),
        ("transformer", transformer, "encode_conditioning", "WorldModel"),
    ):
        if component is not None and (isinstance(component, type) or not hasattr(component, method)):
            raise ValueError(
                f"{name}: expected a {kind}, got a {type(component).__name__}; are the components in each "
                "other's place?"
            )
    if vae is None:
        return
    if vae.decoded_frames_per_latent != vae.frames_per_latent:
        raise ValueError(
            f"vae: expected a tokenizer whose decoder gives the {vae.frames_per_latent} frames of a latent that its "
            f"encoder takes, got {vae.decoded_frames_per_latent}; change its frame_stride, encoder_strides or "
            "decoder_strides"
        )
    if transformer is not None and transformer.config.latent_channels != vae.config.latent_channels:
        raise ValueError(
            f"transformer: expected latent_channels={vae.config.latent_channels}, as the tokenizer has, got "
            f"{transformer.config.latent_channels}; load the two that were trained together"
        )


def check_registered(components: Mapping[str, tuple[str | None, str | None]]) -> None:
    """Check that `from_pretrained` will find the classes of components, given as `(library, class name)`.

    Raises:
        ValueError: If it will not.
    """
    for name, (library, class_name) in components.items():
        if library not in (None, "gaia2", "diffusers"):
            raise ValueError(
                f"{name}: expected a class that checkpoints can name, got {class_name} of {library}; put "
                "@gaia2.register on it"
            )
