from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaia2.viz.latents import latent_pca, reconstruction_picture


def mixed(scores: np.ndarray, channels: int = 16) -> np.ndarray:
    """Latents `(..., channels)` whose principal components are the given scores `(..., 3)`, and a little noise."""
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.normal(size=(channels, 3)))[0].T
    return scores @ basis + 5.0 + 1e-3 * rng.normal(size=(*scores.shape[:-1], channels))


def test_colours_are_the_three_strongest_components() -> None:
    scores = np.random.default_rng(0).normal(size=(500, 3))
    scores = np.linalg.qr(scores - scores.mean(axis=0))[0] * np.sqrt(500) * [9.0, 3.0, 1.0]  # uncorrelated
    colours = latent_pca(mixed(scores)).astype(float)
    assert colours.shape == (500, 3)
    expected = 127.5 + 127.5 * (scores / [9.0, 3.0, 1.0] / 2.5).clip(-1, 1)
    for channel in range(3):
        off = min(
            np.abs(colours[:, channel] - expected[:, channel]).max(),
            np.abs(colours[:, channel] - (255 - expected[:, channel])).max(),  # either sign
        )
        assert off < 2


def test_equal_latents_have_equal_colours_in_all_videos() -> None:
    latents = np.random.default_rng(0).normal(size=(2, 3, 4, 8, 16))
    latents[1, 2] = latents[0, 0]
    colours = latent_pca(latents)
    assert colours.shape == (2, 3, 4, 8, 3)
    np.testing.assert_array_equal(colours[1, 2], colours[0, 0])
    np.testing.assert_array_equal(latent_pca(latents), colours)


def test_latents_without_variance_are_grey() -> None:
    assert np.isin(latent_pca(np.ones((4, 4, 8))), (127, 128)).all()


@pytest.mark.parametrize("latents", [np.zeros((4, 2)), np.zeros(4), np.full((4, 4), np.nan)])
def test_bad_latents(latents: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"latents: expected finite numbers \(..., c\) with c >= 3, got"):
        latent_pca(latents)


def test_the_picture_has_a_row_each_and_a_column_a_latent(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames, reconstruction = rng.integers(0, 256, (2, 2, 16, 32, 64, 3), dtype=np.uint8)
    latents = rng.normal(size=(2, 2, 2, 4, 8))
    path = tmp_path / "new" / "picture.png"
    picture = reconstruction_picture(path, frames, reconstruction, latents)
    assert picture.shape == (3 * 32, 4 * 64, 3)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), picture)
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]
    colours = latent_pca(latents)
    for column, (b, t) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        place = slice(64 * column, 64 * (column + 1))
        np.testing.assert_array_equal(picture[16:32, place], frames[b, 8 * t + 4, 16:])  # below the label
        np.testing.assert_array_equal(picture[48:64, place], reconstruction[b, 8 * t + 4, 16:])
        lower_cells = picture[64 + 16 :, place].reshape(16, 4, 16, 3)
        assert (lower_cells == colours[b, t, 1][:, None]).all()


def test_a_failed_picture_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, latents = np.zeros((1, 8, 32, 64, 3), np.uint8), np.random.default_rng(0).normal(size=(1, 1, 2, 4, 8))
    path = tmp_path / "picture.png"
    reconstruction_picture(path, frames, frames, latents)
    before = path.read_bytes()

    def full(self: Image.Image, path: Path, format: str) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="disk full"):
        reconstruction_picture(path, frames + 9, frames, latents)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


@pytest.mark.parametrize(
    ("frames", "reconstruction", "latents"),
    [
        ((1, 8, 32, 64, 3), (1, 8, 32, 32, 3), (1, 1, 2, 4, 8)),
        ((8, 32, 64, 3), (8, 32, 64, 3), (1, 2, 4, 8)),
        ((1, 8, 32, 64, 3), (1, 8, 32, 64, 3), (2, 1, 2, 4, 8)),
    ],
)
def test_shapes_that_do_not_fit(tmp_path: Path, frames: tuple, reconstruction: tuple, latents: tuple) -> None:
    arrays = (np.zeros(frames, np.uint8), np.zeros(reconstruction, np.uint8), np.ones(latents))
    with pytest.raises(ValueError, match=r"expected \(b, tv, hv, wv, 3\) uint8 twice and \(b, t, h, w, c\), got"):
        reconstruction_picture(tmp_path / "a.png", *arrays)


def test_latents_that_do_not_divide_the_frames(tmp_path: Path) -> None:
    frames = np.zeros((1, 8, 32, 64, 3), np.uint8)
    with pytest.raises(
        ValueError, match=r"latents: expected t, h, w that divide tv, hv, wv = \(8, 32, 64\), got \(3, 2"
    ):
        reconstruction_picture(tmp_path / "a.png", frames, frames, np.ones((1, 3, 2, 4, 8)))
