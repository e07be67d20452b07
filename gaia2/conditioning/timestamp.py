"""Camera timestamps, so that one model handles any frame rate (paper §2.2.3, Video Frequency)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from einops import rearrange
from torch import nn

from gaia2.conditioning.condition import Condition, Conditioning, Key, LatentTimes
from gaia2.nn.embeddings import FourierFeatures, compute_dtype, full_precision
from gaia2.nn.shapes import check_axes
from gaia2.scene import Scene


class TimestampEncoder(nn.Module):
    """Embed timestamps: scaled to [-1, 1], Fourier features, then an MLP (paper §2.2.3, Video Frequency).

    Args:
        dim: Channels of the embedding.
        max_seconds: Seconds that map to 1; 2.4 s covers 48 frames at 20 Hz.
        num_frequencies: Fourier frequencies; the fastest of 10 has a period of about 9 ms.

    Raises:
        ValueError: If `max_seconds` is not positive.

    Example:
        >>> TimestampEncoder(dim=8)(torch.zeros(1, 3, 5)).shape
        torch.Size([1, 3, 5, 8])
    """

    def __init__(self, *, dim: int, max_seconds: float = 2.4, num_frequencies: int = 10) -> None:
        super().__init__()
        if not max_seconds > 0:
            raise ValueError(f"max_seconds: expected a positive number of seconds, got {max_seconds}")
        self.max_seconds = max_seconds
        self.features = FourierFeatures(num_frequencies=num_frequencies)
        self.mlp = nn.Sequential(nn.Linear(self.features.out_dim, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, timestamps: torch.Tensor) -> torch.Tensor:
        """Embed timestamps.

        Args:
            timestamps: `(b, t, n)` seconds relative to the present, negative in the past.

        Returns:
            `(b, t, n, c)`.

        Raises:
            ValueError: If the shape is not `(b, t, n)`.
        """
        check_axes("timestamps", timestamps, "b t n")
        features = self.features(full_precision(timestamps) / self.max_seconds)
        return self.mlp(features.to(compute_dtype(self.mlp[0])))


def relative_to_present(timestamps: torch.Tensor, context_length: torch.Tensor) -> torch.Tensor:
    """Shift timestamps so that the present is 0: the last context latent, or the first one without context.

    The present is the mean over the cameras, so that it does not depend on their order.

    Args:
        timestamps: `(b, t, n)` seconds on any clock; NaN for cameras that are not there.
        context_length: `(b,)` integer, number of context latents; 0 is generation from scratch.

    Returns:
        `(b, t, n)` seconds.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> relative_to_present(torch.tensor([[[0.0], [0.8], [1.6]]]), torch.tensor([2])).flatten().tolist()
        [-0.8..., 0.0, 0.8...]
    """
    check_axes("timestamps", timestamps, "b t n")
    check_axes("context_length", context_length, "b", b=timestamps.shape[0])
    index = rearrange((context_length - 1).clamp(min=0), "b -> b 1")
    return timestamps - rearrange(timestamps.nanmean(dim=-1).gather(1, index), "b 1 -> b 1 1")


@dataclass(frozen=True)
class TimestampCondition(Condition):
    """The time of each latent and camera, relative to the present.

    Attributes:
        max_seconds: Seconds that map to 1.
    """

    max_seconds: float = 2.4

    name = "timestamp"
    enters = "position"

    @cached_property
    def keys(self) -> Mapping[str, Key]:
        """`timestamps (b, t, n)` in seconds; never left out."""
        return {"timestamps": Key("b t n", required=True, droppable=False)}

    def make_encoder(self, dim: int) -> TimestampEncoder:
        """A `TimestampEncoder`."""
        return TimestampEncoder(dim=dim, max_seconds=self.max_seconds)

    def encode(self, encoder: nn.Module, given: Conditioning, grid: tuple[int, int] | None) -> torch.Tensor:
        """The same for all cells."""
        return rearrange(encoder(given["timestamps"]), "b t n c -> b t n 1 1 c")

    def collate(self, scenes: Sequence[Scene], times: LatentTimes) -> Conditioning:
        """The mean over the frames of each latent, relative to the present."""
        timestamps = times.mean([scene.timestamps for scene in scenes])
        present = torch.full((len(scenes),), times.present + 1)
        return {"timestamps": relative_to_present(timestamps, present)}

    def check_scene(self, scene: Scene) -> None:
        """Any timestamps will do."""

    def said_by(self, scene: Scene) -> Iterator[str]:
        """Always."""
        yield "timestamps"

    def masked_like(self, key: str, tensor: torch.Tensor) -> torch.Tensor:
        """The present."""
        return torch.zeros_like(tensor)
