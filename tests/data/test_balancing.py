"""Balanced sampling: what is drawn is what was asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gaia2.data.balancing import balance
from gaia2.data.index import ClipEntry, scene_features
from gaia2.data.procedural import ProceduralWorld
from gaia2.data.sampler import WindowSampler
from gaia2.data.source import Source
from gaia2.data.windows import cut_windows

FEATURES = {"weather": None, "time_of_day": None, "speed": (6.0, 12.0)}


@pytest.fixture(scope="module")
def clips() -> list[ClipEntry]:
    """A skewed set of procedural drives: most are in clear daylight, some have no known weather."""
    scenes = ProceduralWorld(rig="front", num_frames=8).sample_scenes(range(300))
    rng = np.random.default_rng(0)
    entries = []
    for number, scene in enumerate(scenes):
        if rng.random() < 0.7:
            scene = scene.replace(weather="clear", time_of_day="day")
        if rng.random() < 0.05:
            scene = scene.replace(weather=None)
        entries.append(
            ClipEntry(
                str(number), f"{number // 20}.tar", "mp4", 8, ("front",), (8, 8), scene.duration, 1,
                Source("procedural" if number < 200 else "other", str(number)), scene_features(scene),
            )
        )  # fmt: skip
    return entries


def chi_square_p(observed: np.ndarray, expected: np.ndarray) -> float:
    """Probability of a chi-square at least as large, by the regularised incomplete gamma function."""
    statistic = float((np.square(observed - expected) / expected).sum())
    return float(torch.special.gammaincc(torch.tensor((len(observed) - 1) / 2.0), torch.tensor(statistic / 2)))


def cell_of(clip: ClipEntry) -> tuple:
    speed = clip.features["speed"]
    return clip.features.get("weather"), clip.features.get("time_of_day"), sum(float(speed) >= edge for edge in (6, 12))


@pytest.mark.parametrize("temper", [0.0, 0.5, 1.0])
def test_draws_follow_the_target(clips: list[ClipEntry], temper: float) -> None:
    """Chi-square of 20,000 draws of the sampler itself against frequencies computed by hand."""
    windows = cut_windows(clips, 4)
    found = balance(clips, FEATURES, temper=temper, floor=0.02, clip=windows.clip)
    names = [cell_of(clips[c]) for c in windows.clip]
    counts = {name: names.count(name) for name in set(names)}
    shares = {name: count / len(names) for name, count in counts.items()}
    target = {name: share * max(share, 0.02) ** -temper for name, share in shares.items()}
    total = sum(target.values())
    sampler = WindowSampler(windows, 10, seed=3, probability=found.probability, num_samples=20_000)
    drawn = [cell_of(clips[int(draw.key)]) for batch in sampler for draw in batch]
    assert len(drawn) == 20_000
    observed = np.array([drawn.count(name) for name in target])
    expected = np.array([20_000 * value / total for value in target.values()])
    assert chi_square_p(observed, expected) > 0.001
    if temper:  # and the test can fail: it is not the distribution of the data
        plain = np.array([20_000 * shares[name] for name in target])
        assert chi_square_p(observed, plain) < 1e-9
    reported = {tuple(map(str, cell.values)): cell for cell in found.cells}
    assert len(reported) == len(target)
    assert sum(cell.target for cell in found.cells) == pytest.approx(1)
    np.testing.assert_allclose(
        sorted(cell.target for cell in found.cells), sorted(np.array(list(target.values())) / total)
    )
    for cell in found.cells:
        assert cell.weight == pytest.approx(cell.target / cell.share)
        rows = found.cell == found.cells.index(cell)
        assert rows.sum() == cell.count
        assert found.probability[rows].sum() == pytest.approx(cell.target)


def test_datasets_get_their_shares(clips: list[ClipEntry]) -> None:
    found = balance(clips, {"weather": None}, temper=1.0, floor=0.0, shares={"procedural": 1.0, "other": 3.0})
    first = np.array([clip.source.dataset == "procedural" for clip in clips])
    assert found.probability[first].sum() == pytest.approx(0.25)
    for dataset in ("procedural", "other"):
        targets = [cell.target for cell in found.cells if cell.dataset == dataset]
        np.testing.assert_allclose(targets, targets[0])  # within each, all kinds of weather alike
    with pytest.raises(ValueError, match="shares: expected a share of at least 0 of each dataset, other, procedural"):
        balance(clips, {"weather": None}, shares={"procedural": 1.0})


def test_the_floor_holds_rare_cells_back() -> None:
    def clip(weather: str) -> ClipEntry:
        return ClipEntry("k", "a.tar", "mp4", 8, ("front",), (8, 8), 0.7, features={"weather": weather})

    clips = [clip("clear")] * 899 + [clip("rain")] * 100 + [clip("fog")]
    free, held = (balance(clips, {"weather": None}, temper=1.0, floor=floor) for floor in (0.0, 0.05))
    assert free.cells[2].target == pytest.approx(1 / 3)  # one clip of fog, a third of the time
    assert held.cells[2].target == pytest.approx((0.001 / 0.05) / (2 + 0.001 / 0.05))
    assert "fog" in held.table()
    assert held.table().splitlines()[0].split() == ["count", "share", "target", "weight", "weather"]
    assert balance(clips, {}, temper=1.0).probability == pytest.approx(np.full(1000, 0.001))


def test_bad_requests(clips: list[ClipEntry]) -> None:
    with pytest.raises(ValueError, match=r"balance: expected features of agents, .*, got 'wether', which no clip has"):
        balance(clips, {"wether": None})
    with pytest.raises(ValueError, match=r"expected temper and floor from 0 to 1, got 2 and 0\.01"):
        balance(clips, {"weather": None}, temper=2)
    with pytest.raises(ValueError, match="balance: expected at least one clip"):
        balance([], {"weather": None})
    assert len(balance(clips, {"dataset": None, "num_cameras": None, "frame_rate": (15,)}).cells) == 2
