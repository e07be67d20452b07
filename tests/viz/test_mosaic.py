"""Mosaic and contact sheet: every camera's pixels where they belong, with a label over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaia2.viz._tiles import BACKGROUND, enlarge, label_height
from gaia2.viz.contact_sheet import contact_sheet
from gaia2.viz.mosaic import mosaic, mosaic_grid

SURROUND = ("front", "front_left", "front_right", "rear_left", "rear_right")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_surround_rig_stands_as_around_the_car() -> None:
    frames = noise(2, 5, 40, 60, 3)
    picture = mosaic(frames, SURROUND)
    assert picture.shape == (2, 80, 180, 3)
    below = label_height(40)
    # camera: (top, left) of its tile; the two rear cameras are centred
    places = {0: (0, 60), 1: (0, 0), 2: (0, 120), 3: (40, 30), 4: (40, 90)}
    for camera, (top, left) in places.items():
        np.testing.assert_array_equal(
            picture[:, top + below : top + 40, left : left + 60], frames[:, camera, below:], err_msg=SURROUND[camera]
        )
    assert (picture[:, 40:, :30] == BACKGROUND).all()
    assert (picture[:, 40:, 150:] == BACKGROUND).all()


@pytest.mark.parametrize(
    ("names", "columns", "grid"),
    [
        (SURROUND, None, [[1, 0, 2], [3, 4]]),
        (SURROUND, 5, [[0, 1, 2, 3, 4]]),
        (SURROUND, 2, [[0, 1], [2, 3], [4]]),
        (("front",), None, [[0]]),
        (("a", "b", "c", "d", "e"), None, [[0, 1, 2], [3, 4]]),
        (("ring_side_left", "ring_front_center", "ring_rear_right", "ring_rear_left"), None, [[1], [0], [3, 2]]),
        (("CAM_FRONT", "CAM_BACK", "CAM_BACK_LEFT"), None, [[0], [2, 1]]),
        (("front_near", "front_far", "rear"), None, [[0, 1], [2]]),  # two claim one place: in the order given
    ],
)
def test_grid(names: tuple[str, ...], columns: int | None, grid: list[list[int]]) -> None:
    assert mosaic_grid(names, columns) == grid


def test_labels_differ_by_name_and_not_by_frame() -> None:
    frames = np.full((3, 2, 48, 128, 3), 90, dtype=np.uint8)
    picture = mosaic(frames, ("front_left", "front_right"))
    height = label_height(48)
    left, right = picture[:, :height, :128], picture[:, :height, 128:]
    assert left.max() > 200
    assert (left[0] != right[0]).any()
    assert (picture == picture[:1]).all()
    assert (picture[:, height:] == 90).all()
    assert (frames == 90).all()


def test_enlarged_tiles_do_not_leak_into_each_other() -> None:
    frames = np.zeros((1, 2, 32, 32, 3), dtype=np.uint8)
    frames[:, 1] = 255
    picture = mosaic(frames, ("a", "b"), scale=3)
    assert picture.shape == (1, 96, 192, 3)
    below = label_height(96)
    assert (picture[:, below:, :96] == 0).all()
    assert (picture[:, below:, 96:] == 255).all()


def test_enlarge_is_catmull_rom() -> None:
    image = noise(2, 9, 12, 3, seed=1)
    large = enlarge(image, 3)
    assert large.shape == (2, 27, 36, 3)
    # the middle one of each 3 x 3 pixels lies on the source pixel
    np.testing.assert_array_equal(large[:, 1::3, 1::3], image)
    # a third of the way between two pixels, by the spline's definition through four of them
    p0, p1, p2, p3 = (image[0, 4, i].astype(float) for i in (3, 4, 5, 6))
    u = 1 / 3
    a, b = -p0 + 3 * p1 - 3 * p2 + p3, 2 * p0 - 5 * p1 + 4 * p2 - p3
    value = 0.5 * (2 * p1 + (p2 - p0) * u + b * u**2 + a * u**3)
    np.testing.assert_allclose(large[0, 13, 14], np.clip(np.rint(value), 0, 255), atol=1)
    ramp = np.broadcast_to(np.arange(0, 240, 12, dtype=np.uint8)[:, None], (6, 20, 3))
    middle = enlarge(ramp, 2)[3, 4:-4, 0].astype(int)
    np.testing.assert_array_equal(np.diff(middle), 6)


def test_contact_sheet(tmp_path: Path) -> None:
    frames = noise(9, 3, 40, 64, 3, seed=2)
    sheet = contact_sheet(tmp_path / "new" / "a.png", frames, ("l", "f", "r"), rows=3, frame_rate=10.0)
    assert sheet.shape == (120, 192, 3)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), sheet)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]
    below = label_height(40)
    for row, index in enumerate((0, 4, 8)):
        for camera in range(3):
            tile = sheet[row * 40 : (row + 1) * 40, camera * 64 : (camera + 1) * 64]
            np.testing.assert_array_equal(tile[below:-below], frames[index, camera, below:-below])
    # no label where none belongs
    np.testing.assert_array_equal(sheet[40:80, 64:128], frames[4, 1])
    assert contact_sheet(tmp_path / "b.png", frames, ("l", "f", "r"), rows=20, scale=2).shape == (720, 384, 3)


def test_bad_input(tmp_path: Path) -> None:
    frames = noise(2, 5, 16, 16, 3)
    with pytest.raises(ValueError, match=r"frames: expected \(tv, n, hv, wv, 3\) uint8, got \(2, 5, 3, 16, 16\)"):
        mosaic(frames.transpose(0, 1, 4, 2, 3), SURROUND)
    with pytest.raises(ValueError, match="names: expected one for each of the 5 cameras of frames, got 2"):
        mosaic(frames, ("front", "rear"))
    with pytest.raises(ValueError, match="columns: expected a whole number from 1 to 10000, got 0"):
        mosaic(frames, SURROUND, columns=0)
    with pytest.raises(ValueError, match=r"scale: expected a whole number from 1 to 64, got 0\.5"):
        mosaic(frames, SURROUND, scale=0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rows: expected a whole number from 1 to 10000, got 0"):
        contact_sheet(tmp_path / "a.png", frames, SURROUND, rows=0)
