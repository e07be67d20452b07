"""How far a world model's training reached in cameras and in time, so that generation beyond it can be told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

TOLERANCE = 0.05  # share by which the time between latents may differ from what was seen


def widen(known: Mapping[str, Any] | None, timestamps: torch.Tensor) -> dict[str, Any]:
    """A range that also reaches over the timestamps of a batch.

    Args:
        known: The range so far; None is nothing yet.
        timestamps: `(b, t, n)` seconds.

    Returns:
        "cameras", the most of them, and "seconds", the shortest and the longest time from one latent to the next; of
        single latents there is none.

    Example:
        >>> widen(None, torch.tensor([[[0.0, 0.0], [0.8, 0.8]]]))
        {'cameras': 2, 'seconds': [0.8, 0.8]}
    """
    known = known or {}
    result: dict[str, Any] = {"cameras": max(known.get("cameras", 0), timestamps.shape[2])}
    steps = timestamps.diff(dim=1)
    steps = steps[steps.isfinite()]
    seen = [*known.get("seconds", ()), *([float(steps.min()), float(steps.max())] if steps.numel() else ())]
    if seen:
        result["seconds"] = [round(min(seen), 4), round(max(seen), 4)]
    return result


def outside(known: Mapping[str, Any] | None, cameras: int, seconds: Sequence[float]) -> list[str]:
    """What goes beyond a range, in words; nothing if it is not known.

    Args:
        known: As `widen` gives it.
        cameras: Number of cameras.
        seconds: Times from one latent to the next; NaN for a single latent.

    Example:
        >>> outside({"cameras": 5, "seconds": [0.8, 0.8]}, 6, [0.4])
        ['6 cameras, where it knows up to 5', '0.4 s from latent to latent, where it knows 0.8 to 0.8 s']
    """
    if not known:
        return []
    found = []
    if cameras > known.get("cameras", cameras):
        found.append(f"{cameras} cameras, where it knows up to {known['cameras']}")
    if "seconds" in known:
        low, high = known["seconds"]
        for step in seconds:
            if math.isfinite(step) and not low * (1 - TOLERANCE) <= step <= high * (1 + TOLERANCE):
                found.append(f"{step:.3g} s from latent to latent, where it knows {low:.3g} to {high:.3g} s")
                break
    return found
