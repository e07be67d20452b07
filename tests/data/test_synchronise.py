"""Cameras brought to frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaia2.data.synchronise import synchronise

NAMES = ["front", "left", "rear"]


@given(st.integers(0, 10_000))
def test_every_picture_is_the_nearest_and_used_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = [
        np.sort(np.arange(40) / 10 + rng.uniform(-0.009, 0.009, 40) + shift)[rng.random(40) < 0.9]
        for shift in (0, 0.02)
    ]
    found = synchronise(times, names=NAMES[:2], tolerance=0.04)
    assert (np.diff(found.index, axis=0) > 0).all()
    for front, left in found.index:
        offset = times[1][left] - times[0][front]
        assert abs(offset) <= 0.04
        assert abs(offset) == np.abs(times[1] - times[0][front]).min()
    possible = sum(np.abs(times[1] - t).min() <= 0.04 for t in times[0])
    assert len(found.index) == possible  # pictures of the front camera lie 82 ms apart at least


def test_late_short_and_gappy_cameras() -> None:
    front = np.arange(20) / 10
    found = synchronise([front, front[3:] + 0.01, np.delete(front, [8, 9])[:16]], names=NAMES)
    assert found.index[:, 0].tolist() == [*range(3, 8), *range(10, 18)]
    assert found.index[0].tolist() == [3, 0, 3]
    assert found.index[5].tolist() == [10, 7, 8]
    assert found.largest_offset == pytest.approx(0.01)
    assert found.notes == (
        "3 of 20 frames of 'front' left out: 'left' has no picture within 0.050 s",
        "4 of 20 frames of 'front' left out: 'rear' has no picture within 0.050 s",
    )


def test_another_reference_and_another_rate() -> None:
    slow, fast = np.arange(5) / 10, np.arange(13) / 30
    found = synchronise([fast, slow], names=NAMES[:2], reference=1)
    assert found.index.tolist() == [[0, 0], [3, 1], [6, 2], [9, 3], [12, 4]]
    assert synchronise([slow, fast], names=NAMES[:2]).index[:, ::-1].tolist() == found.index.tolist()
    # at the fast camera's rate the slow one has too few pictures: none is used twice
    few = synchronise([fast, slow], names=NAMES[:2], tolerance=0.05)
    assert few.index[:, 1].tolist() == [0, 1, 2, 3, 4]
    assert few.notes == ("8 of 13 frames of 'front' left out: their nearest pictures stand in the frame before",)


def test_duplicated_times() -> None:
    found = synchronise([[0.0, 0.1, 0.1, 0.2], [0.0, 0.1, 0.2]], names=NAMES[:2])
    assert found.index.tolist() == [[0, 0], [1, 1], [3, 2]]
    assert found.notes == ("1 pictures of 'front' left out: their time is that of the one before",)


def test_what_cannot_be_synchronised() -> None:
    with pytest.raises(ValueError, match="camera 'left': expected pictures, got none"):
        synchronise([[0.0], []], names=NAMES[:2])
    with pytest.raises(
        ValueError, match=r"camera 'front': expected times that do not go back, got 0\.100000 s in row 2"
    ):
        synchronise([[0.0, 0.2, 0.1]], names=NAMES[:1])
    with pytest.raises(ValueError, match=r"expected moments at which all of front, left .* of one clock and one unit"):
        synchronise([[0.0, 0.1], [1e9, 1.1e9]], names=NAMES[:2])
