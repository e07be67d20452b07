from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.training.learning_rate import warmup_cooldown, warmup_cosine


def test_cooldown_is_piecewise_linear() -> None:
    steps = np.arange(101)
    got = [warmup_cooldown(int(s), total=100, warmup=10, cooldown=20, final=0.1) for s in steps]
    expected = np.interp(steps, [-1, 9, 80, 100], [0.0, 1.0, 1.0, 0.1])
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_cosine_is_a_half_wave_after_the_warm_up() -> None:
    rates = [warmup_cosine(s, total=110, warmup=10, final=0.2) for s in range(111)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    np.testing.assert_allclose(rates[10:], 0.6 + 0.4 * np.cos(np.linspace(0, np.pi, 101)), atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(total=st.integers(1, 500), warmup=st.integers(0, 100), cooldown=st.integers(0, 100), final=st.floats(0.0, 1.0))
def test_every_rate_is_a_factor(total: int, warmup: int, cooldown: int, final: float) -> None:
    for step in (0, total // 2, total - 1, total, total + 50):
        assert 0 <= warmup_cooldown(step, total=total, warmup=warmup, cooldown=cooldown, final=final) <= 1
        assert 0 <= warmup_cosine(step, total=total, warmup=warmup, final=final) <= 1
    assert warmup_cosine(max(total, warmup + 1), total=total, warmup=warmup, final=final) == pytest.approx(final)
    assert warmup_cooldown(0, total=total, warmup=warmup, cooldown=0, final=final) > 0


def test_after_the_end_the_rate_stays() -> None:
    assert warmup_cooldown(200, total=100, warmup=10, cooldown=20, final=0.1) == pytest.approx(0.1)
    assert warmup_cosine(200, total=100, warmup=10, final=0.1) == pytest.approx(0.1)


def test_without_a_warm_up_or_cool_down() -> None:
    assert [warmup_cosine(s, total=4, warmup=0, final=0.0) for s in (0, 2, 4)] == pytest.approx([1.0, 0.5, 0.0])
    assert [warmup_cooldown(s, total=4, warmup=0, cooldown=0, final=0.2) for s in (0, 3, 4)] == pytest.approx(
        [1, 1, 0.2]
    )
    assert warmup_cosine(0, total=0, warmup=0, final=0.3) == pytest.approx(1.0)
    assert warmup_cosine(1, total=0, warmup=0, final=0.3) == pytest.approx(0.3)
    assert warmup_cosine(5, total=5, warmup=5, final=0.3) == pytest.approx(1.0)  # the first after the warm-up
