"""Latents of the procedural world, rendered and encoded while a training goes on, so that it sees no clip often.

Axes: i clips, t latent time, n cameras, h w latent grid, c channels.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from gaia2._checkpoint import load_checkpoint, save_checkpoint
from gaia2.conditioning.collate import scene_conditioning
from gaia2.data.mirror import mirror_scene
from gaia2.data.procedural import ProceduralWorld
from gaia2.data.rendered import RenderedClips
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.scene import Scene
from gaia2.training.maps import cell_maps, cell_weights
from gaia2.video.pixels import from_uint8

SEEDS_APART = 1_000_000
"""Shard k has the seeds from `first_seed + k * clips`; validation is this far away."""


@dataclass
class RenderedLatents:
    """Shards of encoded clips in a folder and in memory; shard k always holds the same.

    Attributes:
        folder: Where the shards are kept, so that a training that goes on need not render them again.
        worlds: Rigs to render, one after the other; shard k has `worlds[k % len(worlds)]`.
        tokenizer: Trained, with its latents' statistics.
        clips: Clips that are rendered for a shard.
        mirrored: Whether a shard holds their mirror images, too.
        first_seed: Seed of the first clip.
        with_maps: Whether to keep maps of classes and depth, see `cell_maps`.
        max_agents: Boxes kept for each camera and time.
        embed: Makes scenario embeddings `(i, d)` of scenes; they are not kept in the folder. None leaves them out.
        rank: Number of this process among `world` that share the folder, and the rendering.
        world: How many they are.
    """

    folder: Path
    worlds: Sequence[ProceduralWorld]
    tokenizer: VideoTokenizer
    clips: int = 64
    mirrored: bool = False
    first_seed: int = SEEDS_APART
    with_maps: bool = False
    max_agents: int = 16
    embed: Callable[[Sequence[Scene]], np.ndarray] | None = None
    rank: int = 0
    world: int = 1
    shards: list[dict[str, Any]] = field(default_factory=list)

    def grow(self, count: int) -> None:
        """Have at least `count` shards, reading or rendering those that are missing.

        Each process renders ahead, up to its own next shard, and then waits for those of the others.
        """
        while len(self.shards) < count:
            index = len(self.shards)
            own = index + (self.rank - index) % self.world
            state = self._read(own) or self._render(own)
            while own != index:
                other = self._read(index)
                if other is not None:
                    state, own = other, index
                else:
                    time.sleep(0.2)
            if self.embed is not None:
                state["conditioning"]["scenario_embedding"] = torch.from_numpy(self.embed(self._scenes(index)))
            self.shards.append(state)

    def batch(
        self, count: int, size: int, generator: torch.Generator
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Random clips of the first `count` shards, all with the same number of cameras.

        Args:
            count: Shards to draw from.
            size: Clips.
            generator: Random numbers, a CPU one.

        Returns:
            Tensors `(b, t, n, h, w, ...)` by name, sampled latents `x`, weights `weight` and, if kept, `maps`; and the
            conditions by name.
        """
        self.grow(count)
        first = self.shards[int(torch.randint(count, (), generator=generator))]
        alike = [shard for shard in self.shards[:count] if shard["mean"].shape[2] == first["mean"].shape[2]]
        shard = torch.randint(len(alike), (size,), generator=generator).tolist()
        row = torch.randint(len(first["mean"]), (size,), generator=generator).tolist()

        def pick(name: str) -> torch.Tensor:
            return torch.stack([alike[s][name][r] for s, r in zip(shard, row, strict=True)]).float()

        mean, std = pick("mean"), pick("std")
        tensors = {"x": mean + std * torch.randn(mean.shape, generator=generator), "weight": pick("weight")}
        if self.with_maps:
            tensors["maps"] = pick("maps") / 255
        keys = alike[0]["conditioning"]
        conditioning = {
            key: torch.stack([alike[s]["conditioning"][key][r] for s, r in zip(shard, row, strict=True)])
            for key in keys
        }
        return tensors, conditioning

    def _world(self, index: int) -> ProceduralWorld:
        return self.worlds[index % len(self.worlds)]

    def _seeds(self, index: int) -> range:
        begin = self.first_seed + index * self.clips
        return range(begin, begin + self.clips)

    def _scenes(self, index: int) -> list[Scene]:
        scenes = self._world(index).sample_scenes(self._seeds(index))
        return scenes + [mirror_scene(scene) for scene in scenes] if self.mirrored else scenes

    def _path(self, index: int) -> Path:
        return self.folder / f"latents-{index:05d}.pt"

    def _read(self, index: int) -> dict[str, Any] | None:
        """A shard that an earlier call, or another process, has left; None if there is none, or one of other clips."""
        if not self._path(index).is_file():
            return None
        state = load_checkpoint(self._path(index))
        return state if state.pop("origin") == self._origin(index) else None

    def _render(self, index: int) -> dict[str, Any]:
        clips = RenderedClips.render(self._world(index), self._seeds(index), desc=f"shard {index}")
        state = self._encode(clips)
        if self.mirrored:
            state = _joined(state, self._encode(clips.mirrored()))
        save_checkpoint(self._path(index), state | {"origin": self._origin(index)})
        return state

    def _encode(self, clips: RenderedClips) -> dict[str, Any]:
        return encode_clips(clips, self.tokenizer, with_maps=self.with_maps, max_agents=self.max_agents)

    def _origin(self, index: int) -> str:
        facts = {
            "tokenizer": fingerprint(self.tokenizer),
            "world": self._world(index).describe(),
            "seeds": [self._seeds(index).start, self.clips],
            "maps": self.with_maps,
            "mirrored": self.mirrored,
            "max_agents": self.max_agents,
        }
        return json.dumps(facts, sort_keys=True)


@torch.no_grad()
def encode_clips(
    clips: RenderedClips, tokenizer: VideoTokenizer, *, with_maps: bool = False, max_agents: int = 16
) -> dict[str, Any]:
    """Latent distributions (float16), weights, conditions and maps of clips, each `(i, ...)`."""
    means: list[torch.Tensor] = []
    stds: list[torch.Tensor] = []
    for frames in clips.frames.split(8):
        i = len(frames)
        pixels = from_uint8(rearrange(frames, "i tv n c hv wv -> (i n) c tv hv wv").to(tokenizer.device))
        with torch.autocast(tokenizer.device.type, torch.bfloat16):
            latent_dist = tokenizer.encode(pixels).latent_dist
        centre = latent_dist.mean.float()
        upper = tokenizer.normalize(centre + latent_dist.std.float())
        centre = tokenizer.normalize(centre)
        for parts, value in ((means, centre), (stds, upper - centre)):
            parts.append(rearrange(value, "(i n) c t h w -> i t n h w c", i=i).half().cpu())
    masks, cell = clips.masks(torch.arange(len(clips))), tokenizer.spatial_compression_ratio
    state: dict[str, Any] = {
        "mean": torch.cat(means),
        "std": torch.cat(stds),
        "weight": cell_weights(masks, cell=cell).half(),
        "conditioning": scene_conditioning(
            clips.scenes, frames_per_latent=tokenizer.frames_per_latent, max_agents=max_agents
        ),
    }
    if with_maps:
        state["maps"] = (cell_maps(masks, cell=cell) * 255).round().to(torch.uint8)
    return state


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Rows of two shards, one after the other."""
    return {
        key: _joined(value, other[key]) if isinstance(value, dict) else torch.cat([value, other[key]])
        for key, value in one.items()
    }


def fingerprint(tokenizer: VideoTokenizer) -> str:
    """A hash of a tokenizer's config and encoder weights."""
    digest = hashlib.sha256()
    config: Mapping[str, Any] = {k: v for k, v in tokenizer.config.items() if not k.startswith("_")}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, value in sorted(tokenizer.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()
