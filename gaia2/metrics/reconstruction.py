"""How near a reconstruction is to its original, and how sharp it is."""

from __future__ import annotations

import torch
from torch.nn import functional

DATA_RANGE = 2.0  # of frames in [-1, 1]
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def psnr(reconstruction: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of each sample of a batch.

    Args:
        reconstruction: `(b, ...)`, nominally in [-1, 1]; values outside are clipped.
        frames: The same axes, in [-1, 1].

    Returns:
        `(b,)`.

    Example:
        >>> psnr(torch.full((1, 3, 4, 4), 0.2), torch.zeros(1, 3, 4, 4))
        tensor([20.])
    """
    error = (reconstruction.float().clamp(-1, 1) - frames.float()).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(DATA_RANGE**2 / error)


def ssim(reconstruction: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Structural similarity of each sample of a batch (Wang et al. 2004), mean over channels and frames.

    Local means, variances and covariance are those under a Gaussian window of 11x11 pixels with sigma 1.5, which lies
    wholly inside the picture.

    Args:
        reconstruction: `(b, ..., hv, wv)`, nominally in [-1, 1]; values outside are clipped.
        frames: The same axes, in [-1, 1].

    Returns:
        `(b,)`, at most 1.

    Raises:
        ValueError: If the shapes differ, or a picture is smaller than the window.

    Example:
        >>> frames = torch.rand(2, 3, 8, 16, 32) * 2 - 1
        >>> ssim(frames, frames)
        tensor([1., 1.])
    """
    if reconstruction.shape != frames.shape or min(frames.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(
            f"ssim: expected two videos (b, ..., hv, wv) of one shape with at least {SSIM_WINDOW} rows and columns, "
            f"got {tuple(reconstruction.shape)} and {tuple(frames.shape)}; give larger frames"
        )
    with torch.autocast(frames.device.type, enabled=False):
        return _ssim(reconstruction.float().clamp(-1, 1), frames.float())


def _ssim(reconstruction: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    x, y = (video.flatten(0, -3)[:, None] for video in (reconstruction, frames))
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = _window_mean(x * x) - mean_x.square()
    variance_y = _window_mean(y * y) - mean_y.square()
    covariance = _window_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).reshape(len(frames), -1).mean(dim=1)


def _window_mean(images: torch.Tensor) -> torch.Tensor:
    """Mean of images `(n, 1, h, w)` under the Gaussian window, without borders."""
    distance = torch.arange(SSIM_WINDOW, device=images.device, dtype=images.dtype) - SSIM_WINDOW // 2
    weights = torch.exp(-(distance**2) / (2 * SSIM_SIGMA**2))
    weights = weights / weights.sum()
    columns = functional.conv2d(images, weights.reshape(1, 1, 1, -1))
    return functional.conv2d(columns, weights.reshape(1, 1, -1, 1))
