"""Compare latents by what a world model obeys that is trained on them for the same time.

    python recipes/compare_latents.py --out runs/latents

For each variant: train a tokenizer, encode single-camera clips of random rigs, train a small world model, generate
held-out scenes, and let a judge say which of their conditions can be seen. Times are processor time, so that company on
the machine changes nothing. What is finished is kept; call it again to go on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from einops import rearrange
from torch import nn
from tqdm import tqdm

from gaia2._files import replacing
from gaia2.conditioning.collate import scene_conditioning
from gaia2.conditioning.dropout import ConditioningDropout
from gaia2.data.procedural import ProceduralWorld
from gaia2.data.rendered import RenderedClips
from gaia2.losses.reconstruction import KLLoss, PixelLoss, SeamLoss
from gaia2.metrics.control import Facts, control_measures
from gaia2.metrics.judge_pictures import part_classes
from gaia2.metrics.judge_training import TrainedJudge, load_or_train_judge
from gaia2.metrics.readings import read_clip
from gaia2.models import presets
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.schedulers.time_sampling import BimodalLogitNormal
from gaia2.training.alignment import BlockOutput, MapAlignment
from gaia2.training.maps import cell_maps, cell_weights, num_cell_maps
from gaia2.training.optimizers import make_optimizer
from gaia2.training.sampling import step_generator
from gaia2.training.tasks import TaskSampler
from gaia2.training.world_model_step import WorldModelStep, world_model_loss
from gaia2.video import from_uint8, to_uint8


@dataclass(frozen=True)
class Variant:
    """One kind of latents, and of training on them."""

    channels: int = 64
    cell: int = 16
    scaling: float = 0.0
    latent_maps: float = 0.0
    hidden_maps: float = 0.0
    weights: bool = True
    maps: bool = True
    secondary: float = 0.2

    def tokenizer(self) -> VideoTokenizer:
        """A tokenizer of the mini preset with these latents."""
        options = dict(presets.mini().tokenizer, latent_channels=self.channels)
        if self.cell == 8:
            options["encoder_strides"] = ((2, 4, 4), (2, 2, 2), (1, 1, 1))
            options["decoder_strides"] = ((2, 1, 1), (1, 2, 2), (4, 4, 4))
        return VideoTokenizer(**options)


VARIANTS = {
    "64 channels": Variant(),
    "32 channels": Variant(channels=32),
    "16 channels": Variant(channels=16),
    "24 channels": Variant(channels=24),
    "16 channels, 8-pixel cells": Variant(channels=16, cell=8),
    "32, scaling": Variant(channels=32, scaling=0.25),
    "32, latents aligned": Variant(channels=32, latent_maps=0.5),
    "32, hidden states aligned": Variant(channels=32, hidden_maps=1.0),
    "32, no weights": Variant(channels=32, weights=False),
    "32, no ray and agent maps": Variant(channels=32, maps=False),
    "32, 40% near noise": Variant(channels=32, secondary=0.4),
}


@dataclass(frozen=True)
class Comparison:
    """How long to train, and on what."""

    out: Path
    """Folder for clips, models and results."""
    only: tuple[str, ...] = ()
    """Variants to try; all by default."""
    clips: int = 1536
    """Clips to train on, one camera each."""
    held_out: int = 96
    """Scenes to judge on."""
    tokenizer_minutes: float = 4.0
    """Minutes of a tokenizer's training, on all cores."""
    world_model_minutes: float = 8.0
    """Minutes of a world model's training, on all cores."""
    judge_minutes: float = 4.0
    """Minutes of the judge's training, on one core."""
    start_from: Path | None = None
    """Tokenizer whose weights each begins with where the sizes agree."""
    steps: int = 25
    """Denoising steps."""
    guidance: float = 2.0
    """Guidance scale."""


def within(minutes: float, desc: str) -> Iterator[tuple[int, float]]:
    """Steps, from 1, and the share of the time that is gone, until so many minutes of all cores are."""
    budget = minutes * 60 * torch.get_num_threads()
    begin, step = time.process_time(), 0
    with tqdm(total=100, desc=desc, unit="%", mininterval=20) as progress:
        while (share := (time.process_time() - begin) / budget) < 1:
            progress.update(int(100 * share) - progress.n)
            step += 1
            yield step, share


def set_rates(optimizer: torch.optim.Optimizer, share: float, floor: float = 0.02) -> None:
    """Linear warm-up over 3% of the time, then a cosine."""
    factor = min(1.0, share / 0.03 + 0.02) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share)))
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("base", group["lr"]) * factor


def train_tokenizer(variant: Variant, clips: RenderedClips, config: Comparison, folder: Path) -> VideoTokenizer:
    """Train a tokenizer of the variant's kind, measured on the way out."""
    if (folder / "config.json").is_file():
        return VideoTokenizer.from_pretrained(folder).eval()
    torch.manual_seed(0)
    tokenizer = variant.tokenizer()
    if config.start_from is not None:
        own, other = tokenizer.state_dict(), VideoTokenizer.from_pretrained(config.start_from).state_dict()
        own.update({k: v for k, v in other.items() if k in own and own[k].shape == v.shape})
        tokenizer.load_state_dict(own)
    align = MapAlignment(dim=variant.channels, num_maps=num_cell_maps(), weight=variant.latent_maps)
    both = nn.ModuleDict({"tokenizer": tokenizer, "align": align}).train()
    optimizer = make_optimizer(both, "muon", learning_rate=1e-3, matrix_learning_rate=1e-2, weight_decay=0.05)
    pixel, seam, kl = PixelLoss(), SeamLoss(weight=0.25, period=4), KLLoss()
    for step, share in within(config.tokenizer_minutes, "tokenizer"):
        set_rates(optimizer, share)
        generator = step_generator(1, step)
        rows = torch.randint(len(clips), (8,), generator=generator)
        frames = from_uint8(rearrange(clips.frames[rows, :, 0], "b tv c h w -> b c tv h w"))
        with torch.autocast("cpu", torch.bfloat16):
            dist = tokenizer.encode(frames).latent_dist
            latents = dist.sample(generator)
            out = tokenizer.decode(latents).sample
            terms = {**pixel(out, frames), **seam(out, frames), **kl(dist)}
            if variant.latent_maps:
                maps = cell_maps(clips.masks(rows), cell=variant.cell)[:, :, 0]
                terms["maps"] = align(rearrange(latents, "b c t h w -> b t h w c"), maps)
            if variant.scaling and step % 3 == 0:
                small = F.avg_pool3d(latents, (1, 2, 2))
                target = F.avg_pool3d(frames, (1, 2, 2))
                terms["scaling"] = variant.scaling * sum(pixel(tokenizer.decode(small).sample, target).values())
        torch.stack(list(terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(both.parameters(), 1.0, error_if_nonfinite=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    tokenizer.eval()
    with torch.no_grad():
        some = from_uint8(rearrange(clips.frames[:256:2, :, 0], "b tv c h w -> b c tv h w"))
        latents = torch.cat([tokenizer.encode(part).latent_dist.mean for part in some.split(16)])
    dims = (0, 2, 3, 4)
    tokenizer.set_latent_statistics(latents.mean(dim=dims).tolist(), latents.std(dim=dims).tolist())
    tokenizer.save_pretrained(folder)
    return tokenizer


@torch.no_grad()
def encode(clips: RenderedClips, tokenizer: VideoTokenizer) -> torch.Tensor:
    """Means of the normalised latents, `(i, t, n, h, w, c)`."""
    parts = []
    for rows in torch.arange(len(clips)).split(16):
        frames = from_uint8(rearrange(clips.frames[rows], "b tv n c h w -> (b n) c tv h w"))
        with torch.autocast("cpu", torch.bfloat16):
            mean = tokenizer.normalize(tokenizer.encode(frames).latent_dist.mean.float())
        parts.append(rearrange(mean, "(b n) c t h w -> b t n h w c", b=len(rows)))
    return torch.cat(parts)


def train_world_model(
    variant: Variant, clips: RenderedClips, latents: torch.Tensor, config: Comparison
) -> tuple[WorldModel, int]:
    """Train a small world model; gives the samples that it saw, too."""
    torch.manual_seed(0)
    model = WorldModel(
        latent_channels=variant.channels,
        dim=192,
        num_heads=6,
        num_blocks=6,
        window_latents=3,
        ray_map=variant.maps,
        agent_map=variant.maps,
    )
    align = MapAlignment(dim=192, num_maps=num_cell_maps(), weight=variant.hidden_maps)
    both = nn.ModuleDict({"model": model, "align": align}).train()
    optimizer = make_optimizer(both, "muon", learning_rate=1e-3, matrix_learning_rate=1e-2, weight_decay=0.1)
    step_of = WorldModelStep(
        tasks=TaskSampler(context=0.1, inpainting=0.05),
        times=BimodalLogitNormal(secondary_probability=variant.secondary),
        dropout=ConditioningDropout(individual=0.05, all=0.1, camera=0.0, agent_feature=0.0, agent_instances=False),
    )
    conditioning = scene_conditioning(clips.scenes, max_agents=16)
    hidden = BlockOutput(model.transformer_blocks[3])
    masks = [clips.masks(rows) for rows in torch.arange(len(clips)).split(64)]
    weight = torch.cat([cell_weights(m, cell=variant.cell) for m in masks])
    maps = torch.cat([cell_maps(m, cell=variant.cell) for m in masks]) if variant.hidden_maps else None
    ema = {k: v.clone() for k, v in model.state_dict().items()}
    batch = 48 if variant.cell == 16 else 16
    for step, share in within(config.world_model_minutes, "world model"):
        set_rates(optimizer, share)
        generator = step_generator(2, step)
        rows = torch.randint(len(clips), (batch,), generator=generator)
        given = {key: value[rows] for key, value in conditioning.items()}
        example = step_of.draw(latents[rows], given, generator)
        with torch.autocast("cpu", torch.bfloat16):
            loss = world_model_loss(model, example, weight[rows] if variant.weights else None)
            if maps is not None:
                assert hidden.value is not None
                loss = loss + align(hidden.value, maps[rows], ~example.known_mask)
        loss.backward()
        nn.utils.clip_grad_norm_(both.parameters(), 1.0, error_if_nonfinite=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        decay = min(0.997, (1 + step) / (10 + step))
        with torch.no_grad():
            for key, value in model.state_dict().items():
                ema[key].lerp_(value, 1 - decay)
    hidden.remove()
    model.load_state_dict(ema)
    return model.eval(), step * batch


@torch.no_grad()
def generate(model: WorldModel, tokenizer: VideoTokenizer, clips: RenderedClips, config: Comparison) -> torch.Tensor:
    """Frames `(i, tv, n, 3, hv, wv)` uint8 of the clips' scenes."""
    pipe = Gaia2Pipeline(vae=tokenizer, transformer=model, scheduler=FlowMatchScheduler())
    pipe.set_progress_bar_config(disable=True)
    parts = []
    for first in range(0, len(clips), 16):
        scenes = clips.scenes[first : first + 16]
        video = pipe(
            scenes,
            generator=torch.Generator().manual_seed(first),
            num_inference_steps=config.steps,
            guidance_scale=config.guidance,
            output_type="pt",
        ).frames
        parts.append(to_uint8(2 * video - 1))
    return torch.cat(parts)


def obedience(judge: TrainedJudge, frames: torch.Tensor, clips: RenderedClips) -> dict[str, float]:
    """What of the clips' scenes the judge finds in frames `(i, tv, n, 3, hv, wv)` uint8, by name of the figure."""
    readings = [
        read_clip(judge, no_features, video, scene.rig, scene.frame_times) for video, scene in zip(frames, clips.scenes)
    ]
    facts = [Facts(scene, part_classes(classes)) for scene, classes in zip(clips.scenes, clips.classes)]
    return {name: measure.value() for name, measure in control_measures(readings, facts).items()}


def no_features(images: torch.Tensor) -> torch.Tensor:
    """Nothing: the comparison takes no Fréchet distance."""
    return images.new_empty(len(images), 0, dtype=torch.float32)


def compare(config: Comparison) -> None:
    """Try the variants that are not finished, and write the table."""
    results = config.out / "results.json"
    table = json.loads(results.read_text()) if results.is_file() else {}
    world = ProceduralWorld("random", num_cameras=1)
    train = RenderedClips.load_or_render(config.out / "train.pt", world, range(100_000, 100_000 + config.clips))
    test = RenderedClips.load_or_render(config.out / "test.pt", world, range(10_000, 10_000 + config.held_out))
    judge = load_or_train_judge(config.out, world.image_size, minutes=config.judge_minutes)
    if "genuine" not in table:
        table["genuine"] = obedience(judge, test.frames, test)
    for name in config.only or tuple(VARIANTS):
        if name in table:
            continue
        variant = VARIANTS[name]
        key = json.dumps([variant.channels, variant.cell, variant.scaling, variant.latent_maps])
        folder = config.out / f"tokenizer-{abs(hash_of(key))}"
        tokenizer = train_tokenizer(variant, train, config, folder)
        frames = rearrange(test.frames, "b tv n c h w -> (b n) c tv h w")
        with torch.no_grad():
            decoded = torch.cat(
                [
                    tokenizer.decode(tokenizer.encode(from_uint8(part)).latent_dist.mode()).sample
                    for part in frames.split(16)
                ]
            )
        decoded = to_uint8(decoded)
        row = {
            "psnr": float(10 * (255**2 / (decoded.float() - frames.float()).square().mean((1, 2, 3, 4))).log10().mean())
        }
        again = rearrange(decoded, "(b n) c tv h w -> b tv n c h w", b=len(test))
        row["round trip"] = obedience(judge, again, test)
        model, seen = train_world_model(variant, train, encode(train, tokenizer), config)
        video = generate(model, tokenizer, test, config)
        torch.save(video[:12], config.out / f"{name}.pt")
        row |= {"samples": seen, "generated": obedience(judge, video, test)}
        table = (json.loads(results.read_text()) if results.is_file() else table) | {name: row}
        with replacing(results) as unfinished:
            unfinished.write_text(json.dumps(table, indent=1))
        print(name, json.dumps(row), flush=True)


def hash_of(text: str) -> int:
    """A number of a text that does not change from run to run."""
    import zlib

    return zlib.crc32(text.encode())


if __name__ == "__main__":
    compare(tyro.cli(Comparison, description=__doc__))
