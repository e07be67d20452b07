from __future__ import annotations

import numpy as np
import pytest

from gaia2.scene import METADATA, Scene
from gaia2.scene.example import street_with_traffic


def test_the_street_says_all_of_its_metadata_and_takes_other_values(tmp_path) -> None:
    scene = street_with_traffic(16, 20.0, speed=5.0, weather="snow", number_of_lanes=4)
    assert scene.metadata.keys() == METADATA.keys()
    assert (scene.metadata["weather"], scene.metadata["number_of_lanes"], scene.speed[0]) == ("snow", 4, 5.0)
    scene.save(tmp_path / "street.json")
    assert Scene.load(tmp_path / "street.json") == scene


def test_the_car_keeps_its_distance_and_the_others_come_nearer() -> None:
    scene = street_with_traffic(24, 10.0)
    x = np.asarray(scene.agents.boxes)[..., 0]
    assert x[:, 0].tolist() == pytest.approx([11.0] * 24)
    assert (np.diff(x[:, 1:], axis=0) < 0).all()
    assert x[-1, 1] == pytest.approx(26.0 - 6.0 * 2.3)


def test_a_value_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match="weather"):
        street_with_traffic(weather="hail")
