"""The vehicles of comma2k19: from the angle of the steering wheel to the curvature of the path."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["COMMA2K19_VEHICLES", "Vehicle", "find_vehicle", "steering_offset", "steering_to_curvature"]

_MAX_OFFSET = np.radians(10.0)
_MIN_DISTANCE = 100.0


class Vehicle(NamedTuple):
    """The constants that turn a steering wheel angle into a path curvature.

    Args:
        steer_ratio: Steering wheel angle by road wheel angle.
        wheelbase: Metres.
        understeer: K in s²/m²; the tyres slip, so at speed v the path is 1 + K v² times straighter than the wheels
            point. 0: The kinematic bicycle.
    """

    steer_ratio: float
    wheelbase: float
    understeer: float = 0.0


COMMA2K19_VEHICLES = {
    "toyota_rav4": Vehicle(steer_ratio=16.88, wheelbase=2.65, understeer=1.14e-3),
    "honda_civic": Vehicle(steer_ratio=15.38, wheelbase=2.70, understeer=6.2e-4),
}
"""The two vehicles of the data set.

Steering ratios and wheelbases are those that comma.ai's openpilot drives these cars with. The understeer is what its
linear tyre model gives for them: K = m (c_r l_r - c_f l_f) / (l² c_f c_r), with mass m (1,791 and 1,462 kg loaded),
distances of the axles from the centre of mass l_f, l_r (1.166, 1.484 and 1.08, 1.62 m), wheelbase l, and axle
cornering stiffnesses c_f, c_r (121.6, 151.0 and 192.2, 202.5 kN/rad).
"""

# The data set's README: chunks 1-2 are of the RAV4, the others of the Civic.
_DONGLES = {"b0c9d2329ad1606b": "toyota_rav4", "99c94dc769b5d96e": "honda_civic"}


def steering_to_curvature(angle: np.ndarray, speed: np.ndarray, vehicle: Vehicle) -> np.ndarray:
    """Return the path curvature of a steering wheel angle, by the linear bicycle model in steady state.

    tan(angle / steer_ratio) / wheelbase / (1 + understeer * speed²)

    Args:
        angle: Steering wheel angle in radians, positive to the left.
        speed: M/s, of the same shape.
        vehicle: The car's constants.

    Returns:
        Curvature in 1/m, positive to the left, of the same shape.

    Example:
        >>> civic = COMMA2K19_VEHICLES["honda_civic"]
        >>> steering_to_curvature(np.radians(90.0), 0.0, civic).round(4).item()
        0.038
    """
    slip = 1 + vehicle.understeer * np.square(speed)
    return np.tan(np.asarray(angle) / vehicle.steer_ratio) / (vehicle.wheelbase * slip)


def find_vehicle(folder: Path, vehicle: str | Vehicle | None) -> Vehicle:
    """Return the constants of a segment's vehicle: given, by name, or None for the one that its dongle id tells."""
    known = ", ".join(repr(name) for name in COMMA2K19_VEHICLES)
    if isinstance(vehicle, Vehicle):
        if not (vehicle.steer_ratio > 0 and vehicle.wheelbase > 0 and vehicle.understeer >= 0):
            raise ValueError(
                f"vehicle: expected a positive steer_ratio and wheelbase and understeer >= 0, got {vehicle}"
            )
        return vehicle
    if vehicle is None:
        route = folder.resolve().parent.name
        vehicle = _DONGLES.get(re.split(r"[|_]", route)[0])
        if vehicle is None:
            raise ValueError(
                f"{folder}: expected a route folder <dongle_id>|<start_time> of a known dongle id "
                f"({', '.join(_DONGLES)}), got {route!r}; say vehicle={known} or vehicle=Vehicle(...)"
            )
    if vehicle not in COMMA2K19_VEHICLES:
        raise ValueError(f"vehicle: expected one of {known} or a Vehicle, got {vehicle!r}")
    return COMMA2K19_VEHICLES[vehicle]


def steering_offset(
    times: np.ndarray, angle: np.ndarray, speed: np.ndarray, heading: np.ndarray, vehicle: Vehicle
) -> float:
    """Return the angle that a steering sensor shows when the car goes straight.

    Of all offsets, that with which the integral of speed times curvature is closest to the headings, in the least
    squares; the model is linear in it for the small angles of driving.

    Args:
        times: (tv,) seconds.
        angle: (tv,) radians, positive to the left, NaN where absent.
        speed: (tv,) m/s, NaN where absent.
        heading: (tv,) radians, positive to the left, not wrapped; a constant does not matter.
        vehicle: The car's constants.

    Returns:
        Radians; 0 where less than 100 m was driven, or beyond 10 degrees, which no sensor is off.

    Example:
        >>> t, civic = np.arange(0, 60, 0.05), COMMA2K19_VEHICLES["honda_civic"]
        >>> speed, angle = np.full_like(t, 20.0), 0.05 * np.sin(t / 9)
        >>> rate = speed * steering_to_curvature(angle, speed, civic)
        >>> offset = steering_offset(t, angle + 0.01, speed, np.cumsum(rate) * 0.05, civic)
        >>> round(offset, 4)
        0.01
    """
    step = np.diff(times, prepend=times[0])
    known = np.isfinite(angle) & np.isfinite(speed)
    if (np.abs(speed[known]) * step[known]).sum() < _MIN_DISTANCE:
        return 0.0
    rate = np.where(known, speed * steering_to_curvature(angle, speed, vehicle), 0)
    per_offset = np.where(known, speed / (vehicle.steer_ratio * vehicle.wheelbase), 0)
    per_offset = per_offset / np.where(known, 1 + vehicle.understeer * np.square(speed), 1)
    model = np.stack([np.cumsum(per_offset * step), np.ones_like(times)], axis=1)
    offset = float(np.linalg.lstsq(model, np.cumsum(rate * step) - heading, rcond=None)[0][0])
    return offset if abs(offset) <= _MAX_OFFSET else 0.0
