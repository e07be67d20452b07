"""Evaluate a pipeline: does what it makes obey the scene, look genuine, and stay so?

    python recipes/evaluate.py --model path/to/pipeline --out runs/evaluation
    torchrun --nproc-per-node 2 recipes/evaluate.py --model path/to/pipeline --out runs/evaluation

Renders a fixed list of held-out procedural scenes, reconstructs and generates each, and lets judges and measures read
them: the genuine clips (the best there is), the tokenizer's round trip (the best a world model can reach), the
generated ones, and generated ones of other scenes (what one gets for nothing). What is finished is kept; call it again
to go on. docs/evaluation.md says what the figures mean.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import diffusers
import numpy as np
import torch
import torch.distributed
import tyro
from einops import rearrange
from evaluation_report import Column, drift_figures, figures, write_report
from tqdm import tqdm

import gaia2
from gaia2._checkpoint import load_checkpoint, save_checkpoint
from gaia2._files import replacing
from gaia2.data.procedural import ProceduralWorld
from gaia2.data.rendered import MASK_STRIDE
from gaia2.metrics.control import Facts
from gaia2.metrics.drift import window_looks
from gaia2.metrics.extractors import FeatureExtractor, efficientnet_features
from gaia2.metrics.held_out import HeldOutScene, fingerprint, held_out_scenes, weights_fingerprint
from gaia2.metrics.judge_pictures import part_classes
from gaia2.metrics.judge_training import SHIPPED_SIZE, TrainedJudge, load_or_train_judge, shipped_judge
from gaia2.metrics.readings import READING_VERSION, judged_frames, read_clip
from gaia2.metrics.street_moments import visible_labels
from gaia2.models.behaviour_encoder import BehaviourEncoder
from gaia2.pipelines.guidance import Guidance
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.scene import METADATA
from gaia2.training.world_model_building import load_scenario_encoder
from gaia2.video.pixels import from_uint8, to_uint8

SOURCES = ("genuine", "round trip", "generated")
ROLLOUT_SEED = 540_000_000
MADE_OF = (
    "weights",
    "scenario_encoder",
    "num_inference_steps",
    "guidance_scale",
    "guidance_on",
    "guidance_region",
    "own_judge",
    "judge_scenes",
    "judge_minutes",
    "extractor",
    "readings",
)
"""What the files of a folder have in common; the number of scenes may grow."""
NOT_OF_CLIPS = ("out", "cache", "rollout_seconds", "rollout_scenes")
"""Options that the protocol of the clips leaves out."""


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate, and how thoroughly."""

    out: Path
    """Folder for the clips, readings and the report."""
    model: str = str(gaia2.default_model())
    """Folder or repository of the pipeline."""
    adapter: str | None = None
    """Folder or repository of a LoRA adapter that is used with it, such as one for few steps."""
    scenario_encoder: str | None = None
    """Folder of a `BehaviourEncoder`: clips are then generated from its embedding of the scene, in place of speed,
    curvature, agents and road, which the readings are compared with all the same."""
    cache: Path | None = None
    """Folder for the judge, which does not depend on the model; `out` by default."""
    random_scenes: int = 32
    """Scenes with rigs that no training has seen."""
    surround_scenes: int = 16
    """Scenes with the named rig "surround"."""
    pair_scenes: int = 4
    """Scenes of which each control is changed, for the share of its true shift of latents."""
    num_inference_steps: int = 25
    """Denoising steps."""
    guidance_scale: float = 1.0
    """Classifier-free guidance; 1 is none."""
    guidance_on: tuple[str, ...] | None = None
    """Conditions to guide on, such as `weather agents`; all by default."""
    guidance_region: Literal["agents"] | None = None
    """Where guidance acts: everywhere by default, or under the boxes of agents alone."""
    rollout_seconds: float = 0.0
    """Length of long rollouts, for drift, at least two windows of the model; 0 leaves them out."""
    rollout_scenes: int = 1
    """How many of them, each of another street."""
    own_judge: bool = False
    """Train a judge rather than take the one in the package, which is for pictures of 64 x 128."""
    judge_scenes: int = 1408
    """Scenes that the judge learns from."""
    judge_minutes: float = 4.0
    """Processor time of the judge's training, minutes of one core."""


def main(config: Evaluation) -> None:
    """Evaluate."""
    rank, processes = _join()
    guidance = Guidance(config.guidance_scale, config.guidance_on, config.guidance_region)
    pipe = Gaia2Pipeline.from_pretrained(config.model)
    if config.adapter is not None:
        pipe.load_lora_weights(config.adapter)
    encoder = load_scenario_encoder(config.scenario_encoder, pipe.transformer)
    guidance.without({}, pipe.transformer.conditions)  # refuses names that the model does not know
    pipe.set_progress_bar_config(disable=True)
    size = (int(pipe.vae.config.sample_size[0]), int(pipe.vae.config.sample_size[1]))
    frames = pipe.transformer.config.window_latents * pipe.vae.frames_per_latent
    if 0 < config.rollout_seconds < 2 * frames / 10:
        raise ValueError(
            f"rollout_seconds: expected 0 or at least {2 * frames / 10:g}, two windows, got {config.rollout_seconds:g}"
        )
    scenes = held_out_scenes(
        config.random_scenes, config.surround_scenes, config.pair_scenes, image_size=size, num_frames=frames
    )
    protocol = _protocol(config, pipe, scenes, processes)
    if rank == 0:
        _keep_protocol(config.out / "protocol.json", protocol)
    own = scenes[rank::processes]
    for item in tqdm(own, desc=f"clips ({rank + 1}/{processes})", unit="clip", mininterval=10):
        make_clip(item, pipe, config, encoder)
    if rank == 0:
        _judge(config, size)
    _wait()
    judge, extractor = _judge(config, size), efficientnet_features()
    for item in tqdm(own, desc=f"readings ({rank + 1}/{processes})", unit="clip", mininterval=10):
        read(item, judge, extractor, config, pipe.vae.frames_per_latent)
    if config.rollout_seconds > 0:
        for index in range(rank, config.rollout_scenes, processes):
            roll_out(index, pipe, judge, config)
    _wait()
    if rank == 0:
        report(scenes, config, protocol)


def _judge(config: Evaluation, size: tuple[int, int]) -> TrainedJudge:
    if size == SHIPPED_SIZE and not config.own_judge:
        return shipped_judge()
    folder = config.cache or config.out
    return load_or_train_judge(folder, size, scenes=config.judge_scenes, minutes=config.judge_minutes)


def make_clip(
    item: HeldOutScene, pipe: Gaia2Pipeline, config: Evaluation, encoder: BehaviourEncoder | None = None
) -> None:
    """Render, reconstruct and generate one scene; its file appears when all is there."""
    path = _file(config, "clips", item)
    if path.is_file():
        return
    size = (int(item.scene.rig.image_size[0][0]), int(item.scene.rig.image_size[0][1]))
    world = ProceduralWorld(item.scene.rig, size, num_frames=item.scene.num_frames)
    images, masks = world.render_with_masks([item.scene], [item.seed], MASK_STRIDE)
    with torch.no_grad():
        latents = pipe.encode_frames(from_uint8(images))
        decoded = pipe.decode_latents(latents)
        again = pipe.encode_frames(decoded)
    made = pipe(
        item.scene if encoder is None else encoder.stand_in(item.scene),
        **_sampling(config),
        generator=torch.Generator().manual_seed(item.seed),
        output_type="latent" if item.group == "pair" else "pt",
        output_latents=True,
    )
    assert made.latents is not None  # asked for
    state: dict = {
        "latents": dict(zip(SOURCES, (latents[0].half(), again[0].half(), made.latents[0].half()))),
        "parts": part_classes(masks.classes[0]).to(torch.uint8),
    }
    if item.group != "pair":
        state["frames"] = dict(zip(SOURCES, (images[0], to_uint8(decoded[0]), _as_bytes(made.frames[0]))))
    save_checkpoint(path, state)


def read(
    item: HeldOutScene, judge: TrainedJudge, extractor: FeatureExtractor, config: Evaluation, frames_per_latent: int
) -> None:
    """Let judges and measures read one clip from all sources; pairs are of use for their latents alone."""
    path = _file(config, "readings", item)
    if item.group == "pair" or path.is_file():
        return
    frames = load_checkpoint(_file(config, "clips", item))["frames"]
    rig, times = item.scene.rig, item.scene.frame_times
    save_checkpoint(
        path,
        {
            source: read_clip(judge, extractor, video, rig, times, frames_per_latent=frames_per_latent)
            for source, video in frames.items()
        },
    )


def roll_out(index: int, pipe: Gaia2Pipeline, judge: TrainedJudge, config: Evaluation) -> None:
    """A long video of the named rig, genuine and generated, and how each changes on its way."""
    path, seed = _rollout_file(config, index), ROLLOUT_SEED + index
    if path.is_file():
        return
    rate = pipe.vae.frames_per_latent
    window = pipe.transformer.config.window_latents * rate
    frames = round(config.rollout_seconds * 10) // rate * rate
    size = (int(pipe.vae.config.sample_size[0]), int(pipe.vae.config.sample_size[1]))
    world = ProceduralWorld("surround", size, num_frames=frames, rig_jitter=False)
    # a drive at one speed, in daylight, so that nothing but the model changes what is seen
    scene = world.sample_scenes([seed])[0].replace(
        speed=8.0, curvature=0.0, weather="cloudy", time_of_day="day", traffic_light="none", intersection="none"
    )
    genuine = world.render([scene], [seed])[0]
    made = [
        _as_bytes(piece.frames[0])
        for piece in pipe.stream(
            scene,
            **_sampling(config),
            generator=torch.Generator().manual_seed(seed),
            output_type="pt",
        )
    ]
    looks = {
        "genuine": window_looks(genuine, judge.judge, window),
        "generated": window_looks(torch.cat(made), judge.judge, window),
    }
    save_checkpoint(path.with_suffix(".pt"), {"genuine": genuine[:, 0], "generated": torch.cat(made)[:, 0]})
    _write(path, looks)


def report(scenes: list[HeldOutScene], config: Evaluation, protocol: dict) -> None:
    """Bring the readings together."""
    states = {item.name: load_checkpoint(_file(config, "clips", item)) for item in scenes}
    main_scenes = [item for item in scenes if item.group != "pair"]
    readings = {item.name: load_checkpoint(_file(config, "readings", item)) for item in main_scenes}
    facts = [_facts(item, states[item.name]["parts"]) for item in main_scenes]
    columns = {
        source: Column(
            [readings[item.name][source] for item in main_scenes],
            [states[item.name]["latents"][source].float() for item in main_scenes],
        )
        for source in SOURCES
    }
    pairs = [(item, states[item.name]["latents"], states[item.base]["latents"]) for item in scenes if item.base]
    table, refused = figures(columns, facts, [item.group for item in main_scenes], pairs)
    looks = [json.loads(path.read_text()) for path in _rollout_files(config)]
    table |= drift_figures(config.rollout_seconds, looks) if looks else {}
    pictures = [
        np.stack([states[item.name]["frames"][source][MASK_STRIDE * 3, 0].numpy() for source in SOURCES])
        for item in main_scenes[:6] + main_scenes[-6:]
    ]
    write_report(
        config.out,
        protocol,
        table,
        refused,
        rearrange(np.stack(pictures), "i s c h w -> i s h w c"),
    )


def _facts(item: HeldOutScene, parts: torch.Tensor) -> Facts:
    judged = judged_frames(item.scene.num_frames)
    return Facts(item.scene, parts, visible_labels(item.scene, item.seed, parts, judged))


def _sampling(config: Evaluation) -> dict[str, Any]:
    names = ("num_inference_steps", "guidance_scale", "guidance_on", "guidance_region")
    return {name: getattr(config, name) for name in names}


def _file(config: Evaluation, kind: str, item: HeldOutScene) -> Path:
    """Where what belongs to a scene is kept; another scene of the same name has another file."""
    return config.out / kind / f"{item.name}-{fingerprint([item])[:8]}.pt"


def _rollout_file(config: Evaluation, index: int) -> Path:
    return config.out / f"rollout-{config.rollout_seconds:g}s-{index:02d}.json"


def _rollout_files(config: Evaluation) -> list[Path]:
    """Those that there are, also of calls before."""
    files = (_rollout_file(config, index) for index in range(config.rollout_scenes))
    return [path for path in files if path.is_file()]


def _protocol(config: Evaluation, pipe: Gaia2Pipeline, scenes: list[HeldOutScene], processes: int) -> dict:
    asked = {name: value for name, value in asdict(config).items() if name not in NOT_OF_CLIPS}
    adapter, encoder = asked.pop("adapter"), asked.pop("scenario_encoder")
    asked["guidance_on"] = config.guidance_on and list(config.guidance_on)  # as JSON has it
    return {
        "model": Path(str(asked.pop("model"))).name,
        "adapter": adapter and Path(str(adapter)).name,
        "scenario_encoder": encoder and Path(str(encoder)).name,
        "weights": weights_fingerprint(pipe.vae, pipe.transformer),
        "scenes": fingerprint(scenes),
        "clips": len([item for item in scenes if item.group != "pair"]),
        **asked,
        "extractor": "efficientnet-lite0 stage5",
        "ego motion": "ground alignment",
        "readings": READING_VERSION,
        "metadata": list(METADATA),
        "versions": {"gaia2": gaia2.__version__, "torch": torch.__version__, "diffusers": diffusers.__version__},
    }


def _keep_protocol(path: Path, protocol: dict) -> None:
    """Write down what the folder's files are made of, or see that they are made of the same."""
    if path.is_file():
        old = json.loads(path.read_text())
        differing = [name for name in MADE_OF if old.get(name) != protocol[name]]
        if differing:
            raise ValueError(
                f"out: expected a folder of the same evaluation, got one with another {', '.join(differing)} in "
                f"{path}; give another folder"
            )
    _write(path, protocol)


def _write(path: Path, content: dict) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n")


def _as_bytes(frames: torch.Tensor) -> torch.Tensor:
    """Frames `(tv, n, hv, wv, 3)` in [0, 1], as pipelines give them, as bytes `(tv, n, 3, hv, wv)`."""
    return to_uint8(rearrange(frames * 2 - 1, "t n h w c -> t n c h w"))


def _join() -> tuple[int, int]:
    """Rank and number of processes, as torchrun says."""
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if processes > 1:
        torch.distributed.init_process_group("gloo", timeout=timedelta(hours=12))
    return rank, processes


def _wait() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


if __name__ == "__main__":
    main(tyro.cli(Evaluation, description=__doc__))
