"""Data of a user's own in a scene: windowed, resampled, saved and checked as everything else."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gaia2.scene import AxisArray, Scene

NAN = float("nan")
LANES = np.arange(4 * 2 * 3, dtype=float).reshape(4, 2, 3)


def scene(**extra: object) -> Scene:
    return Scene.create("surround3", num_frames=4, frame_rate=10.0).replace(extra=extra)


@given(
    hnp.arrays(
        st.sampled_from([np.float64, np.int64]),
        hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3),
        elements=st.integers(-9, 9),
    ),
    st.booleans(),
)
def test_json_gives_it_back_exactly(values: np.ndarray, absent: bool) -> None:
    if absent and values.dtype.kind == "f" and values.size:
        values.flat[0] = NAN
    array = AxisArray([f"a{i}" for i in range(values.ndim)], values)
    again = AxisArray.from_dict(json.loads(json.dumps(array.to_dict(), allow_nan=False)))
    assert again == array
    assert again.values.dtype == array.values.dtype


def test_scenes_carry_it_through_files_and_pickles(tmp_path: Path) -> None:
    made = scene(lanes=("tv k c", LANES), ids=AxisArray("n", [3, 1, 2]))
    made.save(tmp_path / "scene.json")
    assert Scene.load(tmp_path / "scene.json") == made == pickle.loads(pickle.dumps(made))
    assert made != scene(lanes=("tv k c", LANES + 1), ids=AxisArray("n", [3, 1, 2]))
    assert "extra" not in scene().to_dict()
    with pytest.raises(ValueError, match="read-only"):
        made.extra["lanes"].values[0] = 1


def test_windows_and_resampling_follow_the_frames() -> None:
    made = scene(lanes=("k tv c", LANES.swapaxes(0, 1)), ids=("n", [3, 1, 2]))
    window = made.window(1, 3)
    np.testing.assert_array_equal(window.extra["lanes"].values, LANES[1:3].swapaxes(0, 1))
    assert window.extra["ids"] == made.extra["ids"]
    twice = made.resample(frame_rate=20.0)
    np.testing.assert_array_equal(twice.extra["lanes"].values, LANES[[0, 0, 1, 1, 2, 2, 3, 3]].swapaxes(0, 1))
    assert made.replace(extra={"lanes": None}).extra == {}


@pytest.mark.parametrize(
    ("extra", "match"),
    [
        (
            {"lanes": ("tv k c", LANES[:3])},
            "extra: lanes: expected 4 frames along the axis tv, .* got 3",
        ),
        ({"lanes": ("n k", np.zeros((2, 2)))}, "extra: lanes: expected 3 cameras along the axis n, .* got 2"),
        ({"lanes": ("tv k", LANES)}, r"extra: lanes: values: expected the axes \(tv, k\), got the shape \(4, 2, 3\)"),
        ({"lanes": ("tv tv c", LANES)}, "extra: lanes: axes: expected different words, such as 'tv k p c'"),
        ({"lanes": (5, [1.0])}, "extra: lanes: axes: expected their names, such as 'tv k p c', got 5"),
        ({"lanes": ("k", [float("inf")])}, "extra: lanes: values: expected finite numbers, got an infinite value"),
        ({"lanes": ("k", ["left"])}, "extra: lanes: values: expected an array of numbers"),
        ({"lanes": LANES}, "extra: lanes: expected an AxisArray, or a pair such as .* got ndarray"),
        ({"my lanes": ("k", [1.0])}, "extra: expected names that are words, such as 'lanes', got 'my lanes'"),
        ([1], "extra: expected names and arrays as a dict, got list"),
    ],
)
def test_bad_extra(extra: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Scene.create("surround3", num_frames=4).replace(extra=extra)


def test_bad_files() -> None:
    data = scene(lanes=("tv k c", LANES)).to_dict()
    for change, match in (
        ({"shape": [4, 2, 2]}, r"extra: expected values of the shape \(4, 2, 2\), as the file says, got \(4, 2, 3\)"),
        ({"type": "complex"}, "extra: type: expected 'integer' or 'number', got 'complex'"),
        ({"unit": "m"}, "extra: unknown key 'unit'"),
    ):
        with pytest.raises(ValueError, match=match):
            Scene.from_dict(data | {"extra": {"lanes": data["extra"]["lanes"] | change}})
    with pytest.raises(ValueError, match="extra: expected names and arrays as a dict, got list"):
        Scene.from_dict(data | {"extra": [1]})
