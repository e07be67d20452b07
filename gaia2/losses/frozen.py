"""What the losses that ask a frozen network share."""

from __future__ import annotations

from typing import Self

import torch
from einops import rearrange
from torch import nn

from gaia2.nn.shapes import check_axes

RGB = 3
FRAMES_HINT = "give RGB video of one camera at a time"


class FrozenNetworkLoss(nn.Module):
    """A loss with a network that is never trained: its parameters ask for no gradient, and it stays in eval mode.

    Args:
        network: Frozen here, in place.
        weight: Weight of the term.

    Example:
        >>> loss = FrozenNetworkLoss(network=nn.BatchNorm2d(3), weight=0.1).train()
        >>> loss.training, loss.network.training, loss.network.weight.requires_grad
        (True, False, False)
    """

    def __init__(self, *, network: nn.Module, weight: float) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.weight = weight

    def train(self, mode: bool = True) -> Self:
        """Set the mode of everything but the network."""
        super().train(mode)
        self.network.eval()
        return self


def paired_images(
    reconstruction: torch.Tensor,
    frames: torch.Tensor,
    *,
    num_frames: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fold two videos into two batches of images, for networks that know no time.

    Args:
        reconstruction: `(b, c=3, tv, hv, wv)`.
        frames: Likewise.
        num_frames: Take so many frames, chosen at random and the same of both videos; None takes all.
        generator: Of the choice, on the CPU.

    Returns:
        Two tensors `(b * num_frames, c, hv, wv)`.

    Raises:
        ValueError: If the shapes differ, or there are fewer frames than `num_frames`.

    Example:
        >>> one, other = paired_images(torch.zeros(2, 3, 8, 4, 4), torch.ones(2, 3, 8, 4, 4), num_frames=5)
        >>> one.shape == other.shape == (10, 3, 4, 4)
        True
    """
    check_axes("frames", frames, "b c tv hv wv", c=RGB, hint=FRAMES_HINT)
    sizes = dict(zip(("b", "c", "tv", "hv", "wv"), frames.shape, strict=True))
    check_axes("reconstruction", reconstruction, "b c tv hv wv", **sizes, hint="give the reconstruction of frames")
    if num_frames is not None:
        if not 1 <= num_frames <= frames.shape[2]:
            raise ValueError(
                f"num_frames: expected from 1 to the {frames.shape[2]} frames given, got {num_frames}; None takes all"
            )
        chosen = torch.randperm(frames.shape[2], generator=generator)[:num_frames].to(frames.device)
        reconstruction, frames = reconstruction[:, :, chosen], frames[:, :, chosen]
    return rearrange(reconstruction, "b c t h w -> (b t) c h w"), rearrange(frames, "b c t h w -> (b t) c h w")
