"""Which examples a training step sees: a function of seed and step, so that a resumed run sees the same ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch


def step_generator(seed: int, step: int) -> torch.Generator:
    """Random numbers of one training step on the CPU, independent of all other steps.

    Example:
        >>> first, again = (torch.rand(1, generator=step_generator(0, 7)) for _ in range(2))
        >>> bool(first == again)
        True
    """
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)


class SeededBatches:
    """Batches of `(clip, camera, seed)` indices for a DataLoader, drawn with replacement.

    The seed is the example's own, for whatever else is drawn for it.

    Args:
        clips: Indices of the clips to draw from.
        num_cameras: Cameras to draw from; `None` gives whole clips, with camera -1.
        batch_size: Examples a step.
        steps: `(first, last + 1)` training step.
        seed: Seed of the training.

    Example:
        >>> batches = list(SeededBatches(clips=range(9), num_cameras=3, batch_size=2, steps=(4, 6), seed=0))
        >>> len(batches), len(batches[0])
        (2, 2)
        >>> len(batches[0][0])
        3
    """

    def __init__(
        self, *, clips: range, num_cameras: int | None, batch_size: int, steps: tuple[int, int], seed: int
    ) -> None:
        self.clips = clips
        self.num_cameras = num_cameras
        self.batch_size = batch_size
        self.steps = range(*steps)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        for step in self.steps:
            generator = step_generator(self.seed, step)
            rows = torch.randint(len(self.clips), (self.batch_size,), generator=generator).tolist()
            if self.num_cameras is None:
                cameras = [-1] * self.batch_size
            else:
                cameras = torch.randint(self.num_cameras, (self.batch_size,), generator=generator).tolist()
            seeds = torch.randint(2**62, (self.batch_size,), generator=generator).tolist()
            yield [(self.clips[row], camera, seed) for row, camera, seed in zip(rows, cameras, seeds, strict=True)]
