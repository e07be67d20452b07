"""The pictures of the concepts are those that the code draws now, and they show what is in it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import draw_concepts
import pytest

from gaia2.conditioning import standard_conditions
from gaia2.scene import RIG_NAMES, named_rig


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return {name: draw() for name, draw in draw_concepts.PICTURES.items()}


@pytest.mark.parametrize("name", draw_concepts.PICTURES)
def test_a_picture_is_what_the_code_draws(name: str, drawn: dict[str, str]) -> None:
    assert (draw_concepts.IMAGES / name).read_text(encoding="utf-8") == drawn[name], "python docs/draw_concepts.py"


def words(picture: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]


def test_sizes_are_the_papers(drawn: dict[str, str]) -> None:
    shown = words(drawn["data_line.svg"])
    assert {"6 × 5 × 14 × 30 × 64", "48 × 5 × 448 × 960 × 3", "8.45B parameters", "85.3M parameters"} <= set(shown)
    shares = [int(text.split("%")[0]) for text in words(drawn["block.svg"]) if text.endswith("% of the parameters")]
    assert len(shares) == 5
    assert sum(shares) == pytest.approx(100, abs=2)


def test_every_condition_and_camera_is_shown(drawn: dict[str, str]) -> None:
    assert {condition.name for condition in standard_conditions()} <= set(words(drawn["controls.svg"]))
    rigs = words(drawn["rigs.svg"])
    for name in RIG_NAMES:
        assert name in rigs
    assert sum(text == "front" for text in rigs) == len(RIG_NAMES) + 1  # each has a front camera; one rig has the name
    assert sum(text == "rear_left" for text in rigs) == sum("rear_left" in named_rig(name).names for name in RIG_NAMES)


def test_a_view_from_above_is_as_wide_as_the_lens() -> None:
    rig = named_rig("surround")
    mount, left, right = draw_concepts.view(rig, 0, 10.0)
    assert abs(left - mount) @ [0, 1] == pytest.approx(10 * 0.5736, abs=0.01)  # sin of 35 degrees
    assert (left - mount)[1] > 0 > (right - mount)[1]  # left is positive
