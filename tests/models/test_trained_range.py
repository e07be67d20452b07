from __future__ import annotations

import torch

from gaia2.models.trained_range import outside, widen
from tests.tiny import conditioning, world_model


def times(step: float, t: int = 3, n: int = 2) -> torch.Tensor:
    return (step * torch.arange(t)).reshape(1, t, 1) + 0.01 * torch.arange(n)


def test_a_range_widens_and_forgets_nothing() -> None:
    known = widen(widen(None, times(0.8)), times(0.4, n=5))
    assert known == {"cameras": 5, "seconds": [0.4, 0.8]}
    assert widen(known, times(0.5, n=1)) == known
    assert widen(None, times(0.8, t=1)) == {"cameras": 2}
    assert widen(known, torch.full((1, 3, 1), torch.nan)) == known


def test_what_goes_beyond_is_said() -> None:
    known = {"cameras": 5, "seconds": [0.4, 0.8]}
    assert outside(known, 5, [0.4, 0.8, 0.82, float("nan")]) == []
    assert outside(known, 1, [0.6]) == []
    assert outside(known, 6, [1.0]) == [
        "6 cameras, where it knows up to 5",
        "1 s from latent to latent, where it knows 0.4 to 0.8 s",
    ]
    assert outside(None, 99, [9.0]) == outside({}, 99, [9.0]) == []


def test_a_training_records_it() -> None:
    model = world_model()
    assert model.config.trained_range is None
    model.record_trained(conditioning(1, 3, 4) | {"timestamps": times(0.8, n=4)})
    assert model.config.trained_range == {"cameras": 4, "seconds": [0.8, 0.8]}
