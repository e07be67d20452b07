"""The command `gaia2`: a driving video of every camera, from words on the command line."""

from __future__ import annotations

import contextlib
import io
import platform
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
import tyro

import gaia2
from gaia2._files import replacing_together
from gaia2._options import (
    check_length,
    check_model,
    check_per_frame,
    check_sampling,
    choose_device,
    parser_message,
    try_out,
)
from gaia2.app.command import App
from gaia2.cli_data import Data
from gaia2.cli_sampling import SamplingOptions, load_pipeline
from gaia2.scene import METADATA, RIG_NAMES, Scene
from gaia2.scene.example import street_with_traffic
from gaia2.scene.vocabulary import METADATA_MEANINGS

if TYPE_CHECKING:
    from gaia2.pipelines.output import Gaia2PipelineOutput
    from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline

SOURCES = ("scene", "argoverse2", "comma2k19")
Rig = Literal[RIG_NAMES]  # type: ignore[valid-type]


PER_FRAME = {
    "speed": "Ego speed in m/s.",
    "curvature": "Ego curvature in 1/m, positive to the left; 0.02 is a turn of 50 m radius.",
}
"""Fields of a scene with a number for each frame, which an option sets for all."""


class ConditionsBase:
    """What to change in the scene; a condition that is left out stays as the scene has it, or is left to the model."""

    def apply(self, scene: Scene) -> Scene:
        """The scene with the given conditions in place of its own."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        for name in PER_FRAME:
            if name in given:
                check_per_frame(name, given[name])
        constant = {name: np.full(scene.num_frames, given[name]) for name in PER_FRAME if name in given}
        return scene.replace(**given | constant)


def _option(name: str, kind: Any, text: str) -> tuple[str, Any, Any]:
    return name, Annotated[kind | None, tyro.conf.arg(help=text)], field(default=None)


def _kind(values: tuple[Any, ...]) -> Any:
    """The type of a metadata option: words are listed; numbers are checked, with the nearest named, by the scene."""
    first = type(values[0])
    return Literal[values] if first is str else first


Conditions = make_dataclass(
    "Conditions",
    [
        *(_option(name, float, text) for name, text in PER_FRAME.items()),
        *(_option(name, _kind(values), METADATA_MEANINGS.get(name, f"{name}.")) for name, values in METADATA.items()),
        _option("prompt", str, "Words for CLIP; needs a model with a text encoder."),
    ],
    bases=(ConditionsBase,),
    frozen=True,
)


@dataclass(frozen=True)
class Generate:
    """Generate a video that obeys a scene.

    The scene comes from a file, from a driving log, or from a named camera rig and the conditions given here.
    """

    scene: Path | None = None
    """Scene file (JSON)."""
    argoverse2: Path | None = None
    """Folder of an Argoverse 2 log: its rig, ego motion and agents."""
    comma2k19: Path | None = None
    """Folder of a comma2k19 segment: its camera and ego motion."""
    rig: Rig | None = None
    """Named camera rig; surround if no scene is given."""
    start: float = 0.0
    """Where in the scene file or log to begin, in seconds."""
    seconds: float = 2.4
    """Length of the video in seconds, rounded to whole latents; one longer than the model's window is made window
    by window."""
    frame_rate: float = 10.0
    """Frames per second; the default model was trained at 10."""
    context: tuple[Path, ...] = ()
    """Video files to go on from, one for each camera of the rig, in its order; their last frames are the context."""
    context_seconds: float = 0.8
    """How much of the end of the context videos to take, in seconds, rounded to whole latents; it counts as part of
    the video."""
    conditions: Annotated[Conditions, tyro.conf.arg(name="")] = field(default_factory=Conditions)  # type: ignore[valid-type]
    sampling: Annotated[SamplingOptions, tyro.conf.arg(name="")] = field(default_factory=SamplingOptions)
    out: Path = Path("gaia2.mp4")
    """Video file to write, all cameras in one mosaic; a contact sheet (.png) and the scene (.json) go beside it."""
    boxes: bool = False
    """Draw the boxes of the agents."""
    per_camera: bool = False
    """Also write one video file for each camera."""
    scale: int = 3
    """Enlarge the pictures of the mosaic by this whole factor."""


@dataclass(frozen=True)
class Demo:
    """Generate the same street with traffic by day and by night with the default model, from the same noise."""

    steps: int | None = None
    """Denoising steps; 50, or 8 with --fast."""
    guidance: float | None = None
    """Classifier-free guidance scale; the model's own if not given. 1 is none, and takes half the time."""
    fast: bool = False
    """In 8 steps with the model's adapter for few steps, which needs gaia2[lora]: a seventh of the time."""
    seed: int = 0
    """Seed of the noise."""
    speed: float = 8.0
    """Ego speed in m/s."""
    out: Path = Path("gaia2_demo")
    """Folder for the videos and the contact sheets."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; user errors end with one line and status 2."""
    words = sys.argv[1:] if arguments is None else arguments
    if words in (["--version"], ["-V"]):
        print(versions())
        return 0
    try:
        if words[:1] == ["train"]:
            from gaia2.training.recipe_files import main as run_recipe

            return run_recipe(words[1:])
        command = parse(words)
        if isinstance(command, Data):
            command.run()
        elif isinstance(command, App):
            command.run(lambda: load_pipeline(SamplingOptions(model=command.model, device=command.device)))
        else:
            generate(command) if isinstance(command, Generate) else demo(command)
    except (ValueError, OSError, ImportError, MemoryError) as error:
        print(f"gaia2: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 2
    return 0


def versions() -> str:
    """This library's version and those that decide what it does, without importing them.

    Example:
        >>> versions().split()[0]
        'gaia2'
    """
    others = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "diffusers", "huggingface_hub"))
    return f"gaia2 {gaia2.__version__} ({others}, Python {platform.python_version()})"


def parse(words: list[str]) -> Generate | Demo | Data | App:
    """Read the options; what the parser refuses is said in one line, without its frame."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                Annotated[Generate, tyro.conf.subcommand("generate")]  # type: ignore[arg-type]
                | Annotated[Demo, tyro.conf.subcommand("demo")]
                | Annotated[Data, tyro.conf.subcommand("data")]
                | Annotated[App, tyro.conf.subcommand("app")],
                prog="gaia2",
                description="Generate multi-camera driving video. `gaia2 train` runs the recipes, and copies them out; "
                "`gaia2 --version` says what is installed.",
                args=words,
            )
    except SystemExit as refused:
        plain = re.sub(r"\x1b\[[0-9;]*m|[^\S ]|[\u2500-\u257f]", " ", said.getvalue())
        text = re.sub("-{5,}", "", " ".join(plain.split()).partition(" For full helptext")[0]).strip()
        if refused.code == 2:
            print(f"gaia2: {parser_message(text, words)}; see gaia2 --help", file=sys.stderr)
        raise


def generate(options: Generate) -> None:
    """Run `gaia2 generate`."""
    check_options(options)
    source = load_source(options)
    pipe = load_pipeline(options.sampling)
    scene = build_scene(options, source, pipe.vae.frames_per_latent)
    context = read_context(options, scene, pipe) if options.context else None
    run(pipe, scene, context, options)


def demo(options: Demo) -> None:
    """Run `gaia2 demo`."""
    sampling = SamplingOptions(steps=options.steps, guidance=options.guidance, fast=options.fast, seed=options.seed)
    each = {name: Generate(sampling=sampling, out=options.out / f"{name}.mp4") for name in ("day", "night")}
    check_per_frame("speed", options.speed)
    for one in each.values():
        check_options(one)
    pipe = load_pipeline(sampling)
    for time_of_day, one in each.items():
        num_frames = pipe.transformer.config.window_latents * pipe.vae.frames_per_latent
        scene = street_with_traffic(num_frames, speed=options.speed, weather="clear", time_of_day=time_of_day)
        run(pipe, scene, None, one)


def check_options(options: Generate) -> None:
    """Raise on what is wrong with the options alone, before anything is loaded."""
    check_length(options)
    check_sampling(options.sampling)
    given = [name for name in SOURCES if getattr(options, name) is not None]
    if len(given) > 1:
        raise ValueError(f"expected one of --scene, --argoverse2 and --comma2k19, got {sorted(given)}; choose one")
    if given and options.rig is not None:
        raise ValueError(f"--rig: expected no rig beside --{given[0]}, whose own is used, got {options.rig}")
    if options.start and not given:
        raise ValueError(f"--start: expected a scene or a log to start in, got --start {options.start:g} without one")
    choose_device(options.sampling.device)
    if options.sampling.model is not None:
        check_model(options.sampling.model)
    try_out(options.out)
    try_out(*result_files(options))


def load_source(options: Generate) -> Scene | None:
    """The scene of the file or log that the options name, whole; None if they name none."""
    if options.scene is not None:
        return Scene.load(options.scene)
    if options.argoverse2 is not None:
        from gaia2.data.argoverse2 import load_argoverse2

        return load_argoverse2(options.argoverse2)
    if options.comma2k19 is not None:
        from gaia2.data.comma2k19 import load_comma2k19

        return load_comma2k19(options.comma2k19)
    return None


def build_scene(options: Generate, source: Scene | None, frames_per_latent: int) -> Scene:
    """The scene to generate: of the source, or of a named rig, at the options' times and with their conditions."""
    num_frames = whole_latents("--seconds", options.seconds, options.frame_rate, frames_per_latent)
    if source is None:
        scene = Scene.create(
            rig=options.rig or "surround",
            num_frames=num_frames,
            frame_rate=options.frame_rate,
            speed=np.full(num_frames, np.nan),
            curvature=np.full(num_frames, np.nan),
        )
    else:
        scene = source.resample(frame_rate=options.frame_rate, num_frames=num_frames, start=options.start)
    return cast("ConditionsBase", options.conditions).apply(scene)


def whole_latents(option: str, seconds: float, frame_rate: float, frames_per_latent: int) -> int:
    """Frames of whole latents that last about so many seconds."""
    latents = round(seconds * frame_rate / frames_per_latent)
    if latents < 1:
        raise ValueError(
            f"{option}: expected at least one latent of {frames_per_latent} frames, "
            f"{frames_per_latent / frame_rate:g} s at {frame_rate:g} frames per second, got {seconds:g} s"
        )
    return latents * frames_per_latent


def read_context(options: Generate, scene: Scene, pipe: Gaia2Pipeline) -> np.ndarray:
    """The last frames of the context videos, uint8 `(tv, n, 3, hv, wv)`, at the pipeline's size and the frame rate."""
    from gaia2.video.files import read_video
    from gaia2.video.resize import fit_frames

    cameras = scene.rig.names
    if len(options.context) != len(cameras):
        raise ValueError(
            f"--context: expected {len(cameras)} videos, one for each of {', '.join(cameras)}, "
            f"got {len(options.context)}"
        )
    rate, seconds = options.frame_rate, options.context_seconds
    num_frames = whole_latents("--context-seconds", seconds, rate, pipe.vae.frames_per_latent)
    videos = []
    for path in options.context:
        frames, frame_rate = read_video(path)
        steps_back = np.arange(num_frames)[::-1] * frame_rate / rate
        picked = len(frames) - 1 - np.round(steps_back).astype(int)
        if picked[0] < 0:
            raise ValueError(
                f"{path}: expected at least {num_frames / rate:g} s of video, got {len(frames) / frame_rate:g} s; give "
                "a longer one or a smaller --context-seconds"
            )
        videos.append(fit_frames(frames[picked], tuple(pipe.vae.config.sample_size)))
    return np.stack(videos, axis=1).transpose(0, 1, 4, 2, 3)


def run(pipe: Gaia2Pipeline, scene: Scene, context: np.ndarray | None, options: Generate) -> None:
    """Generate, write what came out, and say how long it took and where it is."""
    import torch

    sampling, began = options.sampling, time.perf_counter()
    pipe.set_progress_bar_config(
        desc=f"{options.out.name}: {scene.num_frames} frames x {scene.rig.num_cameras} cameras"
    )
    output = pipe(
        scene,
        context=context,
        num_inference_steps=sampling.num_inference_steps,
        guidance_scale=sampling.guidance_scale,
        guidance_on=sampling.guidance_on or None,
        guidance_region=sampling.guidance_region,
        guidance_interval=sampling.guidance_interval,
        num_context_latents=sampling.overlap,
        generator=torch.Generator("cpu").manual_seed(sampling.seed),
    )
    seconds = time.perf_counter() - began
    written = write_result(output, options)
    print(f"{seconds:.1f} s; wrote " + ", ".join(str(path) for path in written))


def write_result(output: Gaia2PipelineOutput, options: Generate) -> list[Path]:
    """Write the video and its scene as the options say; gives the files."""
    from gaia2.video.files import write_video
    from gaia2.viz.contact_sheet import contact_sheet

    names, rate = output.camera_names, output.frame_rate()
    frames = output.overlay() if options.boxes else output.pixels()
    video, beside = result_files(options, names)
    with replacing_together(video, *beside) as (mosaic, sheet, scene, *cameras):
        output.save_video(mosaic, boxes=options.boxes, scale=options.scale)
        contact_sheet(sheet, frames, names, rows=min(4, len(frames)), frame_rate=rate, scale=2)
        output.scenes[0].save(scene)
        for index, camera in enumerate(cameras):
            write_video(camera, frames[:, index], rate)
    return [video, *beside]


def result_files(options: Generate, cameras: Sequence[str] = ()) -> tuple[Path, list[Path]]:
    """The video of a result, and the files beside it; those of single cameras where their names are given."""
    out = options.out
    single = [out.with_name(f"{out.stem}_{name}{out.suffix}") for name in cameras] if options.per_camera else []
    return out, [out.with_suffix(".png"), out.with_suffix(".json"), *single]


if __name__ == "__main__":
    raise SystemExit(main())
