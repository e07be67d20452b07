"""Latents as colours, and the picture that shows a tokenizer at work (paper figure 3).

Axes: b videos, tv video frames, t latent time, h w latent grid, hv wv pixels, c channels.
"""

from __future__ import annotations

from os import PathLike

import numpy as np
from einops import rearrange, repeat

from gaia2.viz._tiles import draw_label, label_height
from gaia2.viz.png import save_png

SPREAD = 2.5  # standard deviations from the mean to black and to white


def latent_pca(latents: np.ndarray) -> np.ndarray:
    """Show the first three principal components of latents as red, green and blue (paper figure 3).

    The components are those of all the latents given, so that equal colours mean equal content; give the latents of
    several videos together to compare them.

    Args:
        latents: `(..., c)`, at least three channels.

    Returns:
        `(..., 3)` uint8; each component has its mean at grey and is cut at 2.5 standard deviations.

    Raises:
        ValueError: If there are fewer than three channels, or a value is not finite.

    Example:
        >>> latent_pca(np.random.default_rng(0).normal(size=(3, 4, 8, 64))).shape
        (3, 4, 8, 3)
    """
    if latents.ndim < 2 or latents.shape[-1] < 3 or not np.isfinite(latents).all():
        raise ValueError(f"latents: expected finite numbers (..., c) with c >= 3, got {latents.shape}")
    centred = latents.reshape(-1, latents.shape[-1]).astype(np.float64)
    centred = centred - centred.mean(axis=0)
    variance, components = np.linalg.eigh(centred.T @ centred / len(centred))
    variance, components = variance[:-4:-1], components[:, :-4:-1]  # the largest come last
    # Which way a component points is arbitrary: let its largest entry be positive.
    signs = np.sign(components[np.abs(components).argmax(axis=0), range(3)])
    scores = centred @ (components * signs) / (SPREAD * np.sqrt(np.maximum(variance, 1e-12)))
    return np.rint(127.5 + 127.5 * scores.clip(-1, 1)).astype(np.uint8).reshape(*latents.shape[:-1], 3)


def reconstruction_picture(
    path: str | PathLike[str], frames: np.ndarray, reconstruction: np.ndarray, latents: np.ndarray
) -> np.ndarray:
    """Save input, reconstruction and latents of some videos, one above the other (paper figure 3).

    There is a column for each latent, with the middle one of the frames that it stands for.

    Args:
        path: The png file to write; an existing one is replaced, missing folders are made.
        frames: `(b, tv, hv, wv, 3)` uint8.
        reconstruction: Likewise.
        latents: `(b, t, h, w, c)`; t divides tv, h and w divide hv and wv.

    Returns:
        The picture, `(3 * hv, b * t * wv, 3)` uint8.

    Raises:
        ValueError: If shapes or types do not fit.

    Example:
        >>> import tempfile
        >>> frames = np.zeros((1, 24, 64, 128, 3), np.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     reconstruction_picture(f"{folder}/a.png", frames, frames, np.random.rand(1, 3, 4, 8, 64)).shape
        (192, 384, 3)
    """
    fits = frames.ndim == latents.ndim == 5 and frames.shape == reconstruction.shape and frames.shape[-1] == 3
    if not fits or frames.dtype != np.uint8 or reconstruction.dtype != np.uint8 or len(frames) != len(latents):
        raise ValueError(
            "frames, reconstruction, latents: expected (b, tv, hv, wv, 3) uint8 twice and (b, t, h, w, c), got "
            f"{frames.shape} {frames.dtype}, {reconstruction.shape} {reconstruction.dtype} and {latents.shape}"
        )
    if any(large % small for large, small in zip(frames.shape[1:4], latents.shape[1:4], strict=True)):
        raise ValueError(
            f"latents: expected t, h, w that divide tv, hv, wv = {frames.shape[1:4]}, got {latents.shape[1:4]}"
        )
    group, cell_height, cell_width = (f // z for f, z in zip(frames.shape[1:4], latents.shape[1:4], strict=True))
    colours = repeat(latent_pca(latents), "b t h w c -> b t (h y) (w x) c", y=cell_height, x=cell_width)
    rows = {
        "input": frames[:, group // 2 :: group],
        "reconstruction": reconstruction[:, group // 2 :: group],
        "latents (PCA)": colours,
    }
    height = label_height(frames.shape[2])
    strips = []
    for name, tiles in rows.items():
        strip = rearrange(tiles, "b t h w c -> h (b t w) c").copy()
        draw_label(strip, name, height)
        strips.append(strip)
    picture = np.concatenate(strips)
    save_png(path, picture)
    return picture
