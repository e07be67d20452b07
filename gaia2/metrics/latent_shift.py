"""How much of the change that a control makes in genuine latents it makes in generated ones, and how varied they are.

Axes: t latent time, n cameras, h w latent grid, c channels.
"""

from __future__ import annotations

import numpy as np
import torch


def shift_row(
    genuine: torch.Tensor, genuine_changed: torch.Tensor, made: torch.Tensor, made_changed: torch.Tensor
) -> np.ndarray:
    """Row of a `Measure` whose figure `ratio_of_sums` is the share of the true shift.

    The shift of the made latents is projected on that of the genuine ones: 1 is the same change, 0 none, or one of
    other places and channels.

    Args:
        genuine: Latents `(t, n, h, w, c)` of the genuine clip.
        genuine_changed: Of the clip of the same scene with one control changed.
        made: Latents that were made of the scene.
        made_changed: Latents that were made of the changed one, from the same noise.

    Returns:
        `(1, 2)`: the product of both shifts, and the square of the genuine one.

    Example:
        >>> a, b = torch.zeros(1, 1, 2, 2, 3), torch.ones(1, 1, 2, 2, 3)
        >>> shift_row(a, b, a, 0.5 * b).tolist()
        [[6.0, 12.0]]
    """
    true = (genuine_changed - genuine).double()
    got = (made_changed - made).double()
    return np.array([[float((true * got).sum()), float(true.square().sum())]])


def within_clip_variance(latents: torch.Tensor) -> float:
    """Variance of the latents `(t, n, h, w, c)` of a clip over time and place, mean over cameras and channels.

    A model that gives the same everywhere has none.
    """
    return float(latents.double().var(dim=(0, 2, 3)).mean())
