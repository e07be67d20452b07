"""The world model's loss (paper Eq. 4)."""

from __future__ import annotations

import torch
from einops import rearrange

from gaia2.nn.embeddings import full_precision


def flow_matching_loss(
    predicted: torch.Tensor,
    target: torch.Tensor,
    known_mask: torch.Tensor | None = None,
    camera_mask: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean squared error of the velocity over the tokens that are to be denoised (paper Eq. 4).

    Args:
        predicted: Predicted velocity `(b, t, n, h, w, c)`.
        target: `x - eps`, the same axes.
        known_mask: Boolean `(b, t, n, h, w)`, true for tokens that were given; they do not count.
        camera_mask: Boolean `(b, n)`, true for cameras that take part; the others do not count, nor do NaN in them.
        weight: `(b, t, n, h, w)`, how much each token counts in the mean; None is equally (paper).

    Returns:
        A scalar; 0 if no token counts.

    Example:
        >>> loss = flow_matching_loss(torch.zeros(1, 2, 1, 1, 1, 4), torch.ones(1, 2, 1, 1, 1, 4))
        >>> loss.item()
        1.0
    """
    counts = torch.ones(target.shape[:-1], dtype=torch.bool, device=target.device)
    if known_mask is not None:
        counts = counts & ~known_mask
    if camera_mask is not None:
        counts = counts & rearrange(camera_mask, "b n -> b 1 n 1 1")
    difference = full_precision(predicted) - full_precision(target)
    error = difference.masked_fill(~counts[..., None], 0.0).square().mean(dim=-1)
    if weight is None:
        return error.sum() / counts.sum().clamp(min=1)
    weight = weight.masked_fill(~counts, 0.0)
    return (weight * error).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
