"""Whether a reconstruction has the fine detail of its original, and whether it is even from frame to frame."""

from __future__ import annotations

import torch

HIGH_FREQUENCY = 0.25  # cycles a pixel: half of the finest that pixels can show


def high_frequency_ratio(
    reconstruction: torch.Tensor, frames: torch.Tensor, *, cutoff: float = HIGH_FREQUENCY
) -> torch.Tensor:
    """Energy of a reconstruction's fine detail as a share of that of its original.

    The energy is the power of each frame's spatial frequencies at or above the cutoff. 1 is as sharp as the original,
    less is blurred, more is noisy. How far it is from 1 is the sharpness gap that the adversarial stage narrows.

    Args:
        reconstruction: `(b, ..., hv, wv)`.
        frames: The same axes.
        cutoff: Cycles a pixel; along either axis 0.5 is the finest there is.

    Returns:
        `(b,)`.

    Raises:
        ValueError: If the shapes differ, or the cutoff is not between 0 and 0.5.

    Example:
        >>> frames = torch.rand(1, 3, 8, 16, 32)
        >>> high_frequency_ratio(0.5 * frames, frames)
        tensor([0.2500])
    """
    if reconstruction.shape != frames.shape:
        raise ValueError(
            f"reconstruction: expected the shape of frames, {tuple(frames.shape)}, got {tuple(reconstruction.shape)}"
        )
    if not 0 < cutoff <= 0.5:
        raise ValueError(f"cutoff: expected cycles a pixel in (0, 0.5], got {cutoff}")
    return _energy_above(reconstruction, cutoff) / _energy_above(frames, cutoff)


def seam_ratio(frames: torch.Tensor, frames_per_latent: int) -> torch.Tensor:
    """Change of a video across the borders of its latents, as a multiple of the change inside them.

    A decoder whose windows do not fit together shows a jump every `frames_per_latent` frames; without one the ratio is
    about 1.

    Args:
        frames: Decoded video `(b, c, tv, hv, wv)`.
        frames_per_latent: Frames that one latent becomes.

    Returns:
        `(b,)`: mean absolute difference of neighbouring frames on two sides of a border over that of the others.

    Raises:
        ValueError: If the video has no border inside.

    Example:
        >>> steady = torch.arange(24.0).reshape(1, 1, 24, 1, 1)
        >>> seam_ratio(steady, frames_per_latent=8)
        tensor([1.])
    """
    if frames_per_latent < 2 or frames.ndim != 5 or frames.shape[2] <= frames_per_latent:
        raise ValueError(
            f"frames: expected (b, c, tv, hv, wv) with tv > frames_per_latent > 1, got {tuple(frames.shape)} and "
            f"{frames_per_latent}; decode more than one latent"
        )
    change = frames.float().diff(dim=2).abs().mean(dim=(1, 3, 4))
    at_border = torch.arange(1, frames.shape[2], device=frames.device) % frames_per_latent == 0
    return change[:, at_border].mean(dim=1) / change[:, ~at_border].mean(dim=1)


def _energy_above(frames: torch.Tensor, cutoff: float) -> torch.Tensor:
    height, width = frames.shape[-2:]
    vertical = torch.fft.fftfreq(height, device=frames.device).abs()
    horizontal = torch.fft.rfftfreq(width, device=frames.device)
    high = torch.maximum(vertical[:, None], horizontal) >= cutoff
    twice = torch.full_like(horizontal, 2.0)  # the half of the spectrum that rfft leaves out
    twice[0] = 1.0
    if width % 2 == 0:
        twice[-1] = 1.0
    power = torch.fft.rfft2(frames.float(), norm="forward").abs().square() * (high * twice)
    return power.flatten(1).sum(dim=1)
