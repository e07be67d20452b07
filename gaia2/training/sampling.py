"""Which examples a training step sees: a function of seed and step, so that a resumed run sees the same ones.

Each sample of a step has random numbers of its own. So it does not matter how a step's samples are divided among ranks
and micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import torch

T = TypeVar("T")

WORD = 1 << 64


def step_generator(seed: int, step: int, sample: int | None = None) -> torch.Generator:
    """Random numbers on the CPU of one training step, or of one sample of it, independent of all others.

    Example:
        >>> first, again = (torch.rand(1, generator=step_generator(0, 7)) for _ in range(2))
        >>> bool(first == again)
        True
        >>> bool(first == torch.rand(1, generator=step_generator(0, 7, 0)))
        False
    """
    number = (seed * 1_000_003 + step) % 2**63
    if sample is not None:
        number = _mixed(_mixed(number) + sample) % 2**63
    return torch.Generator().manual_seed(number)


def _mixed(number: int) -> int:
    """A number of 64 bits that looks random (the finaliser of SplitMix64)."""
    number = (number + 0x9E3779B97F4A7C15) % WORD
    number = ((number ^ number >> 30) * 0xBF58476D1CE4E5B9) % WORD
    number = ((number ^ number >> 27) * 0x94D049BB133111EB) % WORD
    return number ^ number >> 31


def sample_normal(shape: Sequence[int], generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Standard normal numbers `(b, *shape)`, those of each sample from its own generator."""
    return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])


class SeededBatches:
    """Batches of `(clip, camera, seed)` indices for a DataLoader, drawn with replacement.

    The seed is the example's own, for whatever else is drawn for it.

    Args:
        clips: Indices of the clips to draw from.
        num_cameras: Cameras to draw from; `None` gives whole clips, with camera -1.
        samples: Which samples of a step, of those of all ranks; gives that many examples.
        steps: `(first, last + 1)` training step.
        seed: Seed of the training.

    Example:
        >>> batches = list(SeededBatches(clips=range(9), num_cameras=3, samples=range(2), steps=(4, 6), seed=0))
        >>> len(batches), len(batches[0])
        (2, 2)
        >>> len(batches[0][0])
        3
    """

    def __init__(
        self, *, clips: range, num_cameras: int | None, samples: Sequence[int], steps: tuple[int, int], seed: int
    ) -> None:
        self.clips = clips
        self.num_cameras = num_cameras
        self.samples = samples
        self.steps = range(*steps)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        for step in self.steps:
            yield [self._example(step_generator(self.seed, step, sample)) for sample in self.samples]

    def _example(self, generator: torch.Generator) -> tuple[int, int, int]:
        clip = self.clips[int(torch.randint(len(self.clips), (), generator=generator))]
        camera = -1 if self.num_cameras is None else int(torch.randint(self.num_cameras, (), generator=generator))
        return clip, camera, int(torch.randint(2**62, (), generator=generator))


class StepLoader(Generic[T]):
    """What a loader gives for each step, also where the steps jump back.

    Args:
        make: Gives an iterable of what the steps after a step need, for example a DataLoader.

    Example:
        >>> batches = StepLoader(lambda done: iter(range(done + 1, 10)))
        >>> batches[3], batches[4], batches[2]
        (3, 4, 2)
    """

    def __init__(self, make: Callable[[int], Iterable[T]]) -> None:
        self.make = make
        self.step: int | None = None

    def __getitem__(self, step: int) -> T:
        """What step `step` needs."""
        if self.step is None or step != self.step + 1:
            self.iterator = iter(self.make(step - 1))
        self.step = step
        return next(self.iterator)
