"""Bad input of every kind is refused clearly. `make edges` tries thousands; here are a few hundred."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.edges.areas import AREAS, make_case, targets
from tests.edges.clear import Case, why_unclear


@pytest.mark.parametrize("area", AREAS)
def test_good_arguments_are_taken(area: str) -> None:
    """Else a refusal of the bad ones would say nothing."""
    for target in targets(area):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.function(**target.good())


@pytest.mark.parametrize("area", AREAS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_bad_arguments_are_refused_clearly(area: str, seed: int) -> None:
    case = make_case(area, seed)
    why = why_unclear(case)
    assert why is None, f"make_case({area!r}, {seed}): {case.title}: {why}"


def refuse(message: str) -> None:
    raise ValueError(message)


def test_the_definition_of_clear_tells_apart() -> None:
    """Of calls that this file refuses itself, and of one that is not refused at all."""
    from gaia2._checks import whole_number

    assert why_unclear(Case("", lambda: whole_number("steps", -1), ("steps",))) is None
    assert why_unclear(Case("", lambda: whole_number("steps", 1), ("steps",))) == "accepted"
    assert "does not name frames" in str(why_unclear(Case("", lambda: whole_number("steps", -1), ("frames",))))
    assert "raised in test_clear.py" in str(
        why_unclear(Case("", lambda: refuse("steps: expected 1, got 2"), ("steps",)))
    )
    assert "another kind of error" in str(why_unclear(Case("", lambda: {}["steps"], ("steps",))))
