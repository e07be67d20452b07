"""Where the world model's latents come from: shards on disk, or the procedural world while the training goes on.

Which samples a step has is a function of seed and step, however many ranks there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from gaia2.conditioning.condition import Conditioning
from gaia2.conditioning.table import ConditionTable
from gaia2.data.balancing import balance
from gaia2.data.procedural import ProceduralWorld
from gaia2.models.presets import Preset
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.scene import Scene
from gaia2.training.latents import LatentSample, LatentShards
from gaia2.training.ranks import Ranks
from gaia2.training.rendered_latents import SEEDS_APART, RenderedLatents
from gaia2.training.sampling import StepLoader, sample_normal, step_generator
from gaia2.training.world_model_step import choose_cameras_of_each


class Batch(NamedTuple):
    """Samples of a step.

    Attributes:
        tensors: `x`, sampled latents `(b, t, n, h, w, c)`; of rendered clips also `weight` and `maps`.
        conditioning: Conditions by name.
        generators: The rest of the random numbers of each sample.
        names: Which clips they are, for the log.
    """

    tensors: dict[str, torch.Tensor]
    conditioning: Conditioning
    generators: list[torch.Generator]
    names: Sequence[object]


class Source(Protocol):
    """Where the latents come from."""

    num_held_out: int

    def batch(self, step: int, samples: range, size: int) -> Batch:
        """Samples `samples` of the `size` of a step."""
        ...

    def held_out(self, size: int, ranks: Ranks) -> Iterator[tuple[range, tuple[torch.Tensor, Conditioning]]]:
        """This rank's share of the clips that are never trained on, and their numbers, in batches."""
        ...

    def mean(self, like: torch.Tensor) -> torch.Tensor:
        """Mean of the normalised latents of the training."""
        ...

    def scenes(self, count: int) -> list[Scene]:
        """Scenes of clips that are never trained on."""
        ...


def draw_batch(
    source: Source,
    step: int,
    ranks: Ranks,
    batch_size: int,
    cameras: Sequence[int] = (),
    seed: int = 0,
    conditions: ConditionTable | None = None,
) -> Batch:
    """This rank's clips of a step.

    Args:
        source: Where they come from.
        step: Number of the step.
        ranks: Who shares it.
        batch_size: Clips, over all ranks, with as many cameras as the largest of `cameras`.
        cameras: Numbers of cameras that steps choose from; each clip then keeps a random subset of its own, and a step
            of fewer cameras has more clips. Empty keeps all.
        seed: Of that choice.
        conditions: The conditions there are; those of the paper by default.
    """
    size, count = batch_size, 0
    if cameras:
        chosen = torch.randint(len(cameras), (), generator=step_generator(seed, step))
        count = cameras[int(chosen)]
        share = batch_size * max(cameras) / (count * ranks.data_ranks)
        size = max(1, round(share)) * ranks.data_ranks
    batch = source.batch(step, ranks.samples(size), size)
    if count and count < batch.tensors["x"].shape[2]:
        tensors, conditioning = choose_cameras_of_each(
            batch.tensors, batch.conditioning, count, batch.generators, conditions
        )
        batch = batch._replace(tensors=tensors, conditioning=conditioning)
    return batch


@dataclass
class ShardSource:
    """Latents of shards.

    Attributes:
        data: The shards.
        num_held_out: Clips at their beginning that are never trained on.
        steps: Steps of the training.
        seed: Its seed.
        device: Where the batches go.
        workers: Processes that read ahead; 0 reads when it is asked.
        balanced: Features whose joint distribution over the clips is evened out, as `gaia2.data.balance` takes them;
            without any each clip is drawn equally often.
    """

    data: LatentShards
    num_held_out: int
    steps: int
    seed: int = 0
    device: torch.device | str = "cpu"
    workers: int = 0
    balanced: Mapping[str, Sequence[float] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.num_held_out < len(self.data):
            raise ValueError(
                f"validation_clips: expected fewer than the {len(self.data)} clips of {self.data.folder}, got "
                f"{self.num_held_out}"
            )
        self.groups = self.data.alike(self.num_held_out)
        self._shares = self._shares_of_clips()
        self._loader: StepLoader[LatentSample] | None = None
        self._samples: range | None = None
        self._mean: torch.Tensor | None = None

    def places(self, step: int, samples: range) -> list[tuple[int, int]]:
        """Which clips, and from which latent on, the samples of a step are."""
        sizes = torch.tensor([shares[-1] for shares in self._shares], dtype=torch.float64)
        chosen = int(torch.multinomial(sizes, 1, generator=step_generator(self.seed, step)))
        group, shares = self.groups[chosen], self._shares[chosen]
        places = []
        for sample in samples:
            generator = step_generator(self.seed, step, sample)
            if self.balanced:
                at = shares[-1] * torch.rand((), dtype=torch.float64, generator=generator)
                row = group[min(int(torch.searchsorted(shares, at, right=True)), len(group) - 1)]
            else:
                row = group[int(torch.randint(len(group), (), generator=generator))]
            places.append((row, int(torch.randint(self.data.places[row], (), generator=generator))))
        return places

    def _shares_of_clips(self) -> list[torch.Tensor]:
        """For each group, how often its clips are drawn, summed up clip by clip."""
        if not self.balanced:
            return [torch.arange(1, len(group) + 1, dtype=torch.float64) for group in self.groups]
        found = balance(self.data.entries[self.num_held_out :], self.balanced).probability
        share = torch.from_numpy(found)
        return [share[torch.tensor(group) - self.num_held_out].cumsum(0) for group in self.groups]

    def batch(self, step: int, samples: range, size: int) -> Batch:
        """Random windows of random clips with the same axes."""
        if self.workers and samples != self._samples:
            self._samples, self._loader = samples, StepLoader(lambda done: self._reading_ahead(done, samples))
        places = self.places(step, samples)
        read = self.data.batch(places) if self._loader is None else self._loader[step]
        if self._loader is None and step < self.steps:
            self.data.ahead(self.places(step + 1, samples))
        generators = [step_generator(self.seed + 1, step, sample) for sample in samples]
        mean, std = (value.to(self.device, non_blocking=True).float() for value in (read.mean, read.std))
        noise = sample_normal(mean.shape[1:], generators).to(self.device, non_blocking=True)
        return Batch({"x": mean + std * noise}, _to(read.conditioning, self.device), generators, places)

    def held_out(self, size: int, ranks: Ranks) -> Iterator[tuple[range, tuple[torch.Tensor, Conditioning]]]:
        """Mean latents of the held-out clips."""
        if len(self.data.alike(0, self.num_held_out)) > 1:
            size = 1
        for rows in _shares(self.num_held_out, size, ranks):
            read = self.data.batch([(row, 0) for row in rows] or [(0, 0)])
            yield rows, (read.mean.to(self.device).float(), _to(read.conditioning, self.device))

    def mean(self, like: torch.Tensor) -> torch.Tensor:
        """Mean over cameras and some of the training's clips."""
        if self._mean is None:
            self._mean = self.data.mean_latents(self.num_held_out)
        return self._mean.to(like.device).expand_as(like)

    def scenes(self, count: int) -> list[Scene]:
        """Scenes of the first held-out clips."""
        return [self.data.scene(row) for row in range(min(count, self.num_held_out))]

    def _reading_ahead(self, done: int, samples: range) -> DataLoader:
        return DataLoader(
            _Steps(self, samples),
            batch_size=None,
            sampler=range(done + 1, self.steps + 1),
            num_workers=self.workers,
            generator=torch.Generator(),  # its own, so that the global random state is the training's alone
        )


class _Steps(Dataset):
    """What the steps read, by their number."""

    def __init__(self, source: ShardSource, samples: range) -> None:
        self.source, self.samples = source, samples

    def __getitem__(self, step: int) -> LatentSample:
        return self.source.data.batch(self.source.places(step, self.samples))


class RenderedSource:
    """Clips of the procedural world that are rendered while the training goes on.

    Args:
        folder: Where its latents are kept.
        preset: Sizes of frames and clips.
        tokenizer: Trained, with its latents' statistics.
        shards: Shards of 64 clips, and their mirror images, before the first step, and at most.
        steps_per_shard: Steps between one new shard and the next.
        num_held_out: Clips that are never trained on, a multiple of 64.
        with_maps: Whether samples have maps of classes and depth.
        rays: Rays of a rendered pixel.
        seed: Of the training; another one renders other clips.
        compile: Compile the renderer.
        embed: Makes scenario embeddings of the clips that are trained on, see `RenderedLatents`.
        ranks: The processes that share the rendering; all of them need the same folder.
    """

    def __init__(
        self,
        folder: Path,
        preset: Preset,
        tokenizer: VideoTokenizer,
        *,
        shards: tuple[int, int],
        steps_per_shard: int,
        num_held_out: int,
        with_maps: bool = False,
        rays: int = 2,
        seed: int = 0,
        compile: bool = False,
        embed: Callable[[Sequence[Scene]], np.ndarray] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        ranks = ranks or Ranks()
        device = str(ranks.device)
        shared: dict[str, Any] = dict(
            image_size=preset.image_size, num_frames=preset.num_frames, rays=rays, device=device, compile=compile
        )
        rates = (10.0, 10.0, 12.0, 15.0, 20.0, 30.0)
        around = ProceduralWorld(rig="random", num_cameras=6, frame_rates=rates, **shared)
        some = ProceduralWorld(rig="random", num_cameras=5, frame_rates=rates, **shared)
        named = ProceduralWorld(rig="surround", frame_rates=(10.0, 20.0), **shared)
        self.worlds = (around, some, named)
        self.data = RenderedLatents(
            folder / "latents",
            self.worlds,
            tokenizer,
            with_maps=with_maps,
            mirrored=True,
            embed=embed,
            first_seed=SEEDS_APART * (1 + seed % 90),  # below those that judges and evaluations use
            rank=ranks.rank,
            world=ranks.world,
        )
        self.other = RenderedLatents(
            folder / "held_out", self.worlds, tokenizer, first_seed=1000, rank=ranks.rank, world=ranks.world
        )
        self.first, self.last = shards
        self.steps_per_shard, self.seed, self.device = steps_per_shard, seed, device
        self.data.grow(self.first)
        self.other.grow(num_held_out // self.other.clips)
        self.num_held_out = len(self.other.shards) * self.other.clips

    def shards_at(self, step: int) -> int:
        """Shards that a step draws from."""
        return min(self.last, self.first + step // self.steps_per_shard)

    def batch(self, step: int, samples: range, size: int) -> Batch:
        """Random clips of the shards that there are at a step, all with the same number of cameras."""
        shards = self.shards_at(step)
        tensors, conditioning = self.data.batch(shards, size, step_generator(self.seed, step))
        rows = slice(samples.start, samples.stop)
        return Batch(
            {name: value[rows].to(self.device) for name, value in tensors.items()},
            {name: value[rows].to(self.device) for name, value in conditioning.items()},
            [step_generator(self.seed + 1, step, sample) for sample in samples],
            [float(value) for value in tensors["x"][rows].double().sum(dim=(1, 2, 3, 4, 5))],
        )

    def held_out(self, size: int, ranks: Ranks) -> Iterator[tuple[range, tuple[torch.Tensor, Conditioning]]]:
        """Mean latents of the held-out shards."""
        size = math.gcd(size, self.other.clips)
        for rows in _shares(self.num_held_out, size, ranks):
            shard = self.other.shards[rows.start // self.other.clips if rows else 0]
            first = rows.start % self.other.clips if rows else 0
            picked = slice(first, first + max(1, len(rows)))
            x = shard["mean"][picked].float().to(self.device)
            conditioning = {name: value[picked].to(self.device) for name, value in shard["conditioning"].items()}
            yield rows, (x, conditioning)

    def mean(self, like: torch.Tensor) -> torch.Tensor:
        """Mean of the normalised latents of the first shards, over cameras too."""
        means = [shard["mean"].float().mean(dim=(0, 2)) for shard in self.data.shards[: self.first]]
        return torch.stack(means).mean(dim=0)[None, :, None].to(like.device).expand_as(like)

    def scenes(self, count: int) -> list[Scene]:
        """Scenes of the first held-out clips."""
        return self.worlds[0].sample_scenes(range(1000, 1000 + count))


def _shares(count: int, size: int, ranks: Ranks) -> Iterator[range]:
    """This rank's batches of `count` clips; all ranks have equally many, some perhaps empty ones."""
    rounds = -(-count // (size * ranks.data_ranks))
    for number in range(ranks.data_rank * rounds, (ranks.data_rank + 1) * rounds):
        yield range(min(number * size, count), min((number + 1) * size, count))


def _to(tensors: Conditioning, device: torch.device | str) -> Conditioning:
    return {name: value.to(device, non_blocking=True) for name, value in tensors.items()}
