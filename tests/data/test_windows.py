"""Windows apart in time, and regions held out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.data.index import ClipEntry
from gaia2.data.source import Source
from gaia2.data.windows import cut_windows, split_by_regions


def entry(
    key: str, log: str = "a", time: float | None = 0.0, frames: int = 40, rate: float = 20.0, places=(), unit: int = 1
) -> ClipEntry:
    contents = "latents" if unit > 1 else "mp4"
    return ClipEntry(
        key, "a.tar", contents, frames, ("front",), (8, 8), (frames - 1) / rate, unit, Source("d", log, time, places)
    )


def test_windows_lie_end_to_end() -> None:
    windows = cut_windows([entry("a", frames=40), entry("b", log="b", frames=7)], 8)
    assert windows.clip.tolist() == [0] * 5
    assert windows.start.tolist() == [0, 8, 16, 24, 32]
    assert list(windows.frames(8)) == list(range(8, 16))
    assert cut_windows([entry("a")], 8, frame_step=2).start.tolist() == [0, 15]
    assert list(cut_windows([entry("a")], 3, frame_step=4).frames(9)) == [9, 13, 17]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 3))
def test_windows_of_a_log_begin_apart(seed: int, stride: float) -> None:
    """Whatever the clips of a log, of which some overlap, and their frame rates."""
    rng = np.random.default_rng(seed)
    clips = [
        entry(
            str(i), str(rng.integers(2)), rng.uniform(0, 10), int(rng.integers(8, 60)), float(rng.choice([10, 12, 30]))
        )
        for i in range(12)
    ]
    windows = cut_windows(clips, 8, min_stride=stride)
    begin = windows.intervals()[:, 0]
    for log in ("0", "1"):
        mine = np.sort(begin[[clips[c].source.log == log for c in windows.clip]])
        assert (np.diff(mine) >= stride - 1e-6).all()
    ends = windows.start + 7
    assert (ends < np.array([clip.num_frames for clip in clips])[windows.clip]).all()


def test_clips_without_a_time_are_cut_alone() -> None:
    windows = cut_windows([entry("a", time=None), entry("b", time=None)], 8, min_stride=1.0)
    assert windows.start.tolist() == [0, 20, 0, 20]


def test_latents_are_cut_at_whole_latents() -> None:
    windows = cut_windows([entry("a", frames=48, unit=8)], 16, min_stride=0.5)
    assert windows.start.tolist() == [0, 16, 32]  # 10 frames, up to the next latent
    with pytest.raises(ValueError, match="expected a multiple of 8 frames, those of a latent of a, got 12"):
        cut_windows([entry("a", frames=48, unit=8)], 12)


def test_bad_windows() -> None:
    with pytest.raises(ValueError, match="expected clips of at least 50 frames, got 1 of at most 40"):
        cut_windows([entry("a")], 50)
    with pytest.raises(ValueError, match="windows: expected num_frames and frame_step of at least 1"):
        cut_windows([entry("a")], 8, frame_step=0)


REGION = [(48.0, 11.0), (48.0, 11.01), (48.01, 11.01), (48.01, 11.0)]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_training_and_validation_share_nothing(seed: int) -> None:
    """Overlapping clips of drives that cross a region: no sample and no moment of a log is in both."""
    rng = np.random.default_rng(seed)
    clips = []
    for log in range(4):
        start, step = np.array([48.005, 11.005]) + rng.uniform(-0.01, 0.01, 2), rng.normal(0, 0.001, 2)
        for time in np.arange(0, 12, 1.0):  # 2 s clips, one each second: they overlap by half
            places = [tuple(start + step * (time + t)) for t in (0.0, 1.0, 1.95)]
            clips.append(entry(f"{log}-{time:.0f}", log=str(log), time=1e9 + time, places=places))
    split = split_by_regions(clips, [REGION])
    keys = [{clip.key for clip in part} for part in (split.train, split.validation, split.dropped)]
    assert not keys[0] & keys[1]
    assert keys[0] | keys[1] | keys[2] == {clip.key for clip in clips}
    low, high = np.min(REGION, axis=0), np.max(REGION, axis=0)
    for clip in clips:
        touches = any((low < place).all() and (place < high).all() for place in np.array(clip.source.positions))
        assert (clip.key in keys[1]) == touches
    if split.train and split.validation:
        train, held = (cut_windows(part, 16, min_stride=0.3) for part in (split.train, split.validation))
        spans, logs = train.intervals(), [split.train[c].source.log for c in train.clip]
        for (begin, end), c in zip(held.intervals(), held.clip, strict=True):
            mine = spans[[log == split.validation[c].source.log for log in logs]]
            assert not ((mine[:, 0] <= end) & (begin <= mine[:, 1])).any()


def test_clips_without_a_place_are_refused() -> None:
    with pytest.raises(ValueError, match="clip a: expected the latitude and longitude of every clip, got none"):
        split_by_regions([entry("a")], [REGION])
    assert split_by_regions([], [REGION]).train == ()
