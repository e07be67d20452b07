from __future__ import annotations

import pytest
import torch

from gaia2.conditioning.checks import check_conditioning, check_values
from gaia2.conditioning.table import standard_conditions
from tests.conditioning.test_encoder import NAN, VOCABULARY, absent, change, full

TABLE = standard_conditions(vocabulary=VOCABULARY, clip_dim=6, scenario_dim=5)


def test_good_conditionings_pass() -> None:
    check_conditioning(full(), TABLE)
    optional = ("speed", "curvature", "agents", "metadata", "clip_embedding", "scenario_embedding")
    check_conditioning(full() | {key: absent(key) for key in optional}, standard_conditions(vocabulary=VOCABULARY))
    check_conditioning({key: full()[key] for key in ("timestamps", "intrinsics", "extrinsics")})


@pytest.mark.parametrize(
    ("conditioning", "match"),
    [
        (change("timestamps", (0, 0, 0), float("inf")), "timestamps: expected finite numbers, got inf"),
        (change("intrinsics", (0, 0, 2), NAN), "intrinsics: expected finite numbers, got nan"),
        (change("intrinsics", (0, 0, 1), 0.0), "intrinsics: expected positive focal lengths fx / w and fy / h, got 0"),
        (change("distortion", (0, 0, 7), NAN), "distortion: expected finite numbers, got nan"),
        (change("distortion_model", (0, 0), 2), r"distortion_model: expected 0 \(pinhole\) or 1 \(fisheye\), got 2"),
        (change("speed", (0, 0), float("inf")), "speed: expected finite numbers, or NaN where absent, got inf"),
        (change("agents", (0, 0, 0, 0, 5), float("inf")), "agents: expected finite numbers, or NaN where absent"),
        (change("agents", (0, 0, 0, 0, 12), 1.5), "agents: expected category ids from 0 to 6, .* got 1.5"),
        (change("agents", (0, 0, 0, 0, 9), 0.0), "agents: expected a positive length, width and height .* got 0"),
        (change("metadata", (0, 2), -2), "metadata: expected ids of lanes from 0 to 3, or -1 where absent, got -2"),
        (change("clip_embedding", (1, 2), NAN), "clip_embedding: expected rows of numbers, or all NaN where absent"),
        (full() | {"scenario_embedding": torch.zeros(2, 4)}, r"scenario_embedding: expected \(b=2, scenario=5\)"),
    ],
)
def test_bad_values(conditioning: dict[str, torch.Tensor], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_conditioning(conditioning, TABLE)


def test_absent_agents_need_no_size() -> None:
    given = change("agents", (0, 0, 0, 0, 9), 0.0)
    given["agents"][0, 0, 0, 0, 12] = -1
    check_conditioning(given, standard_conditions(vocabulary=VOCABULARY))


def test_implausible_values_are_left_to_the_full_check() -> None:
    check_values(change("agents", (0, 0, 0, 0, 9), 0.0), TABLE)
    with pytest.raises(ValueError, match="metadata: expected ids of country from 0 to 1"):
        check_values(change("metadata", (0, 0), 2), TABLE)
