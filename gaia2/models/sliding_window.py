"""Decoding a video of any length with windows of a few latents that move by one (paper §2.1.2, figure 3).

Axes: b batch, s windows, k latents of a window, g frames of a latent; c channels, t h w latent grid, hv wv pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from einops import rearrange


@dataclass(frozen=True)
class SlidingWindow:
    """A decoder of few latents made one of many: each window gives the frames of its middle latent.

    The first and the last window give the frames of their edge too. Fewer latents than a window are decoded together.

    Args:
        decode: Maps latents `(b, c, k, h, w)` to frames `(b, c', k * frames_per_latent, hv, wv)`.
        window: Latents of a window, an odd number.
        frames_per_latent: Frames that a latent becomes.
        windows_per_batch: Windows decoded at once.

    Example:
        >>> doubled = SlidingWindow(decode=lambda z: z.repeat_interleave(2, dim=2), window=3, frames_per_latent=2)
        >>> pieces = [torch.zeros(1, 1, 4, 1, 1), torch.ones(1, 1, 1, 1, 1)]
        >>> [frames.flatten().tolist() for frames in doubled.stream(pieces)]
        [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]
    """

    decode: Callable[[torch.Tensor], torch.Tensor]
    window: int
    frames_per_latent: int
    windows_per_batch: int = 16

    def stream(self, pieces: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Take latents `(b, c, t, h, w)` in pieces along t; yields the frames `(b, c', g, hv, wv)` of each latent."""
        after: list[torch.Tensor] = []
        for number, latents in enumerate(self._batches(pieces)):
            before, middle, after = self._decode_windows(latents)
            yield from (before if number == 0 else []) + middle
        yield from after

    def _batches(self, pieces: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Latents `(b, c, s + k - 1, h, w)` that make up the windows of one batch each, as soon as they are there."""
        shared = self.window - 1
        held: torch.Tensor | None = None
        done = False
        for piece in pieces:
            held = piece if held is None else torch.cat([held, piece], dim=2)
            windows = max(1, self.windows_per_batch // len(held))
            while held.shape[2] >= windows + shared:
                yield held[:, :, : windows + shared]
                held, done = held[:, :, windows:], True
        if held is not None and (held.shape[2] > shared or not done):
            yield held

    def _decode_windows(
        self, latents: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        """Frames by latent: the first window's leading edge, the middles of all, the last window's trailing edge."""
        b, _, t = latents.shape[:3]
        if t < self.window:
            return [], list(self.decode(latents).split(self.frames_per_latent, dim=2)), []
        windows = rearrange(latents.unfold(2, self.window, 1), "b c s h w k -> (b s) c k h w")
        parts = [self.decode(part) for part in windows.split(self.windows_per_batch)]
        decoded = parts[0] if len(parts) == 1 else torch.cat(parts)
        decoded = rearrange(decoded, "(b s) c (k g) hv wv -> s k b c g hv wv", b=b, k=self.window)
        edge = self.window // 2
        kept = (decoded[0, :edge], decoded[:, edge], decoded[-1, edge + 1 :])
        before, middle, after = ([frames.clone() for frames in part] for part in kept)  # clones: the rest can be freed
        return before, middle, after
