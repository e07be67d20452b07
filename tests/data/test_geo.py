"""Latitude and longitude."""

from __future__ import annotations

import numpy as np
import pytest

from gaia2.data.geo import inside_polygon, latlon_from_ecef, latlon_from_offset, latlon_from_utm, utm_from_latlon

# Known pairs: the CN Tower in zone 17, and points that a grid's definition gives
CN_TOWER = ((43.642566, -79.387139), 17, (630084, 4833438))


def test_utm_of_a_known_place() -> None:
    place, zone, (east, north) = CN_TOWER
    np.testing.assert_allclose(utm_from_latlon(place, zone), (east, north), atol=1)
    assert utm_from_latlon((0.0, -81.0), 17) == pytest.approx((500_000, 0))


def test_utm_there_and_back() -> None:
    rng = np.random.default_rng(0)
    for latitude, longitude in zip(rng.uniform(0, 60, 50), rng.uniform(-84, -78, 50), strict=True):
        east, north = utm_from_latlon((latitude, longitude), 17)
        np.testing.assert_allclose(latlon_from_utm(east, north, 17), (latitude, longitude), atol=1e-8)


def ecef(latitude: float, longitude: float, height: float) -> np.ndarray:
    phi, lam = np.radians([latitude, longitude])
    squared = 6.69437999014e-3
    n = 6378137 / np.sqrt(1 - squared * np.sin(phi) ** 2)
    place = (n + height) * np.cos(phi) * np.array([np.cos(lam), np.sin(lam)])
    return np.array([*place, (n * (1 - squared) + height) * np.sin(phi)])


def test_earth_centred_places() -> None:
    rng = np.random.default_rng(1)
    for place in zip(rng.uniform(-80, 80, 50), rng.uniform(-180, 180, 50), rng.uniform(-100, 2000, 50), strict=True):
        np.testing.assert_allclose(latlon_from_ecef(ecef(*place)), place[:2], atol=1e-8)


def test_offsets_are_metres() -> None:
    origin = (42.3, -71.0)
    place = latlon_from_offset(np.array([300.0]), np.array([400.0]), origin)[0]
    assert np.linalg.norm(ecef(*place, 0) - ecef(*origin, 0)) == pytest.approx(500, rel=5e-3)
    assert (place > origin).all()


def test_polygons_with_a_dent() -> None:
    polygon = np.array([(0, 0), (0, 4), (4, 4), (1, 2), (4, 0)])
    places = np.array([(0.5, 2), (2, 2), (2, 0.4), (3.9, 3.95), (-0.1, 2), (2, 5)])
    assert inside_polygon(places, polygon).tolist() == [True, False, True, True, False, False]
    assert inside_polygon(places, polygon[::-1]).tolist() == [True, False, True, True, False, False]
    assert inside_polygon(np.zeros((0, 2)), polygon).tolist() == []
    with pytest.raises(ValueError, match=r"polygon: expected at least three corners .* got shape \(2, 2\)"):
        inside_polygon(places, polygon[:2])


def test_polygon_against_rejection_by_half_planes() -> None:
    rng = np.random.default_rng(2)
    triangle = np.array([(0.0, 0.0), (3.0, 0.5), (1.0, 2.5)])
    places = rng.uniform(-1, 4, (2000, 2))
    edges = np.roll(triangle, -1, axis=0) - triangle
    to = places[:, None] - triangle
    sides = edges[:, 0] * to[..., 1] - edges[:, 1] * to[..., 0]
    np.testing.assert_array_equal(inside_polygon(places, triangle), (sides > 0).all(axis=1) | (sides < 0).all(axis=1))
