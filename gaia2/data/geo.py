"""Places on the earth: from the frames that datasets use to latitude and longitude, and regions of them.

Degrees, WGS 84. Exact to a metre or better within a city.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["inside_polygon", "latlon_from_ecef", "latlon_from_offset", "latlon_from_utm", "utm_from_latlon"]

_RADIUS = 6_378_137.0
_FLATTENING = 1 / 298.257223563
_SCALE = 0.9996
_N = _FLATTENING / (2 - _FLATTENING)
_MERIDIAN = _RADIUS / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64)
# Krüger's series of the transverse Mercator projection, to the third order: below a millimetre within a zone
_FORWARD = (_N / 2 - 2 / 3 * _N**2 + 5 / 16 * _N**3, 13 / 48 * _N**2 - 3 / 5 * _N**3, 61 / 240 * _N**3)
_BACK = (_N / 2 - 2 / 3 * _N**2 + 37 / 96 * _N**3, _N**2 / 48 + _N**3 / 15, 17 / 480 * _N**3)
_LATITUDE = (2 * _N - 2 / 3 * _N**2 - 2 * _N**3, 7 / 3 * _N**2 - 8 / 5 * _N**3, 56 / 15 * _N**3)


def latlon_from_offset(east: np.ndarray, north: np.ndarray, origin: tuple[float, float]) -> np.ndarray:
    """Return `(..., 2)` latitude and longitude of places some metres east and north of `origin`, on a sphere.

    Example:
        >>> latlon_from_offset(np.array(0.0), np.array(1113.2), (42.0, -71.0)).round(4).tolist()
        [42.01, -71.0]
    """
    latitude, longitude = (math.radians(angle) for angle in origin)
    place = np.stack([latitude + north / _RADIUS, longitude + east / (_RADIUS * math.cos(latitude))], axis=-1)
    return np.degrees(place)


def latlon_from_ecef(position: np.ndarray) -> np.ndarray:
    """Return `(..., 2)` latitude and longitude of earth-centred, earth-fixed `(..., 3)` metres.

    Example:
        >>> latlon_from_ecef(np.array([6_378_137.0, 0.0, 0.0])).tolist()
        [0.0, 0.0]
    """
    x, y, z = np.moveaxis(np.asarray(position, dtype=np.float64), -1, 0)
    short = _RADIUS * (1 - _FLATTENING)
    distance = np.hypot(x, y)
    angle = np.arctan2(z * _RADIUS, distance * short)  # Bowring's first step, exact to micrometres near the ground
    squared = _FLATTENING * (2 - _FLATTENING)
    latitude = np.arctan2(
        z + squared / (1 - squared) * short * np.sin(angle) ** 3, distance - squared * _RADIUS * np.cos(angle) ** 3
    )
    return np.degrees(np.stack([latitude, np.arctan2(y, x)], axis=-1))


def utm_from_latlon(place: tuple[float, float], zone: int) -> tuple[float, float]:
    """Return easting and northing in metres of a place in a zone of the northern hemisphere.

    Example:
        >>> [round(value) for value in utm_from_latlon((43.642566, -79.387139), zone=17)]
        [630084, 4833438]
    """
    latitude, longitude = (math.radians(angle) for angle in place)
    longitude -= _central_meridian(zone)
    k = 2 * math.sqrt(_N) / (1 + _N)
    t = math.sinh(math.atanh(math.sin(latitude)) - k * math.atanh(k * math.sin(latitude)))
    xi, eta = math.atan2(t, math.cos(longitude)), math.atanh(math.sin(longitude) / math.hypot(1, t))
    terms = [(2 * (j + 1), a) for j, a in enumerate(_FORWARD)]
    east = eta + sum(a * math.cos(j * xi) * math.sinh(j * eta) for j, a in terms)
    north = xi + sum(a * math.sin(j * xi) * math.cosh(j * eta) for j, a in terms)
    return 500_000 + _SCALE * _MERIDIAN * east, _SCALE * _MERIDIAN * north


def latlon_from_utm(east: np.ndarray, north: np.ndarray, zone: int) -> np.ndarray:
    """Return `(..., 2)` latitude and longitude of easting and northing in a zone of the northern hemisphere.

    Example:
        >>> latlon_from_utm(np.array(630_084.0), np.array(4_833_438.0), zone=17).round(5).tolist()
        [43.64256, -79.38714]
    """
    xi, eta = np.asarray(north) / (_SCALE * _MERIDIAN), (np.asarray(east) - 500_000) / (_SCALE * _MERIDIAN)
    terms = [(2 * (j + 1), b) for j, b in enumerate(_BACK)]
    xi, eta = (
        xi - sum(b * np.sin(j * xi) * np.cosh(j * eta) for j, b in terms),
        eta - sum(b * np.cos(j * xi) * np.sinh(j * eta) for j, b in terms),
    )
    chi = np.arcsin(np.sin(xi) / np.cosh(eta))
    latitude = chi + sum(d * np.sin(2 * (j + 1) * chi) for j, d in enumerate(_LATITUDE))
    longitude = _central_meridian(zone) + np.arctan2(np.sinh(eta), np.cos(xi))
    return np.degrees(np.stack([latitude, longitude], axis=-1))


def _central_meridian(zone: int) -> float:
    return math.radians(6 * zone - 183)


def inside_polygon(places: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Return whether places lie in a polygon, by the number of its sides that a ray crosses.

    Args:
        places: `(k, 2)` latitude and longitude.
        polygon: `(p, 2)` corners in order, the last one joined to the first; not across the date line.

    Returns:
        `(k,)` bool.

    Example:
        >>> square = np.array([(0, 0), (0, 2), (2, 2), (2, 0)])
        >>> inside_polygon(np.array([(1, 1), (3, 1)]), square).tolist()
        [True, False]
    """
    corners = np.asarray(polygon, dtype=np.float64)
    if corners.ndim != 2 or corners.shape[1:] != (2,) or len(corners) < 3:
        raise ValueError(f"polygon: expected at least three corners (latitude, longitude), got shape {corners.shape}")
    y, x = np.asarray(places, dtype=np.float64).reshape(-1, 1, 2).transpose(2, 0, 1)
    (y1, x1), (y2, x2) = corners.T, np.roll(corners, -1, axis=0).T
    crossed = (y1 > y) != (y2 > y)
    level = np.where(y1 == y2, 1.0, y2 - y1)
    return (crossed & (x < x1 + (y - y1) * (x2 - x1) / level)).sum(axis=1) % 2 == 1
