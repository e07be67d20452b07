"""Checks of a conditioning: axes, which cost nothing, and values, which have to be read from the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gaia2.conditioning.metadata import Vocabulary, vocabulary_sizes
from gaia2.nn.shapes import check_axes
from gaia2.scene import METADATA
from gaia2.scene.validation import nearest

AXES = {
    "timestamps": "b t n",
    "intrinsics": "b n i",
    "extrinsics": "b n r s",
    "distortion": "b n d",
    "distortion_model": "b n",
    "speed": "b t",
    "curvature": "b t",
    "agents": "b t n m f",
    "metadata": "b k",
    "clip_embedding": "b clip",
    "scenario_embedding": "b scenario",
}
"""Keys of a conditioning and their axes."""

REQUIRED = ("timestamps", "intrinsics", "extrinsics")
"""Keys that cannot be absent."""

INTEGERS = ("distortion_model", "metadata")
"""Keys that hold ids."""


def check_axes_of(
    conditioning: Mapping[str, torch.Tensor],
    *,
    num_metadata: int,
    clip_dim: int | None = None,
    scenario_dim: int | None = None,
) -> dict[str, int]:
    """Check keys, axes and kinds of number; reads shapes only, so it is free on every device.

    Args:
        conditioning: Tensors by name.
        num_metadata: Columns of `metadata`.
        clip_dim: Width of `clip_embedding`; None is any.
        scenario_dim: Width of `scenario_embedding`; None is any.

    Returns:
        The sizes of b, t and n.

    Raises:
        ValueError: If a key is missing or unknown, or a tensor does not have the axes of `AXES`.

    Example:
        >>> check_axes_of({"timestamps": torch.zeros(1, 3, 5)}, num_metadata=11)
        Traceback (most recent call last):
        ...
        ValueError: conditioning: expected the key 'intrinsics', got timestamps; scene_conditioning makes all of them
    """
    for key in conditioning:
        if key not in AXES:
            raise ValueError(
                f"conditioning: unknown key {key!r}; did you mean {nearest(key, AXES)!r}? Expected only: "
                f"{', '.join(AXES)}"
            )
    for key in REQUIRED:
        if key not in conditioning:
            raise ValueError(
                f"conditioning: expected the key {key!r}, got {', '.join(conditioning) or 'none'}; "
                "scene_conditioning makes all of them"
            )
    check_axes("timestamps", conditioning["timestamps"], AXES["timestamps"])
    sizes = dict(zip("btn", conditioning["timestamps"].shape, strict=True))
    fixed: dict[str, Any] = {
        **sizes,
        "i": 4,
        "r": 4,
        "s": 4,
        "d": 8,
        "f": 13,
        "k": num_metadata,
        "clip": clip_dim,
        "scenario": scenario_dim,
    }
    known = {axis: size for axis, size in fixed.items() if size is not None}
    for key, tensor in conditioning.items():
        check_axes(key, tensor, AXES[key], **{a: known[a] for a in AXES[key].split() if a in known})
        real = tensor.is_floating_point()
        if real == (key in INTEGERS):
            kind = "integer ids" if key in INTEGERS else "floating-point numbers"
            raise ValueError(f"{key}: expected {kind}, got {tensor.dtype}; convert the tensor")
    return sizes


def check_conditioning(
    conditioning: Mapping[str, torch.Tensor],
    *,
    vocabulary: Vocabulary = METADATA,
    num_categories: int = 7,
    clip_dim: int | None = None,
    scenario_dim: int | None = None,
) -> None:
    """Check a conditioning completely, values too. Reads from the device once: call it before a loop, not in it.

    Args:
        conditioning: Tensors by name, see `AXES`.
        vocabulary: Metadata names and their allowed values, or how many there are.
        num_categories: Number of agent categories.
        clip_dim: Width of `clip_embedding`; None is any.
        scenario_dim: Width of `scenario_embedding`; None is any.

    Raises:
        ValueError: If keys or axes do not fit; timestamps or camera geometry are not finite; a focal length or an
            agent's size is not positive; an id is out of the vocabulary; another value is infinite; or an embedding
            is NaN in part. The message names the key, what was expected and what came.

    Example:
        >>> from gaia2.conditioning.collate import scene_conditioning
        >>> from gaia2.scene import Scene
        >>> conditioning = scene_conditioning(Scene.create("front", num_frames=8))
        >>> check_conditioning(conditioning | {"metadata": torch.full((1, 11), 9)})
        Traceback (most recent call last):
        ...
        ValueError: metadata: expected ids of country from 0 to 2, or -1 where absent, got 9
    """
    sizes = vocabulary_sizes(vocabulary)
    check_axes_of(conditioning, num_metadata=len(sizes), clip_dim=clip_dim, scenario_dim=scenario_dim)
    _raise_first(_value_checks(conditioning, sizes, num_categories) + _plausibility_checks(conditioning))


def check_values(
    conditioning: Mapping[str, torch.Tensor], *, vocabulary_sizes: Mapping[str, int], num_categories: int
) -> None:
    """Check only the values that would spoil the result in silence: ids out of the vocabulary, NaN that may not be.

    Args:
        conditioning: Tensors by name, their axes checked.
        vocabulary_sizes: Metadata name to number of values.
        num_categories: Number of agent categories.

    Raises:
        ValueError: As `check_conditioning`, but for values that are merely implausible.
    """
    _raise_first(_value_checks(conditioning, vocabulary_sizes, num_categories))


_Check = tuple[str, str, torch.Tensor, torch.Tensor]
"""Key, what is expected, the values, and where they are wrong."""


def _value_checks(
    conditioning: Mapping[str, torch.Tensor], sizes: Mapping[str, int], num_categories: int
) -> list[_Check]:
    checks: list[_Check] = []
    for key, tensor in conditioning.items():
        if key in (*REQUIRED, "distortion"):
            checks.append((key, "finite numbers", tensor, ~tensor.isfinite()))
        elif key == "distortion_model":
            checks.append((key, "0 (pinhole) or 1 (fisheye)", tensor, (tensor < 0) | (tensor > 1)))
        elif key == "metadata":
            for column, (name, size) in enumerate(sizes.items()):
                ids = tensor[:, column]
                expected = f"ids of {name} from 0 to {size - 1}, or -1 where absent"
                checks.append((key, expected, ids, (ids < -1) | (ids >= size)))
        else:
            checks.append((key, "finite numbers, or NaN where absent", tensor, tensor.isinf()))
        if key == "agents":
            ids = tensor[..., -1]
            wrong = (ids < -1) | (ids >= num_categories) | (ids != ids.floor()) & ~ids.isnan()
            expected = f"category ids from 0 to {num_categories - 1}, or -1 where there is no agent"
            checks.append((key, expected, ids, wrong))
        elif key in ("clip_embedding", "scenario_embedding"):
            missing = tensor.isnan()
            wrong = missing & ~missing.all(dim=-1, keepdim=True)
            checks.append((key, "rows of numbers, or all NaN where absent", tensor, wrong))
    return checks


def _plausibility_checks(conditioning: Mapping[str, torch.Tensor]) -> list[_Check]:
    focal = conditioning["intrinsics"][..., :2]
    checks = [("intrinsics", "positive focal lengths fx / w and fy / h", focal, focal <= 0)]
    if "agents" in conditioning:
        size = conditioning["agents"][..., 7:10]
        there = ~(conditioning["agents"][..., -1:] < 0)
        checks.append(("agents", "a positive length, width and height in metres", size, there & (size <= 0)))
    return checks


def _raise_first(checks: list[_Check]) -> None:
    failed = torch.stack([wrong.any() for *_, wrong in checks]).tolist()
    for (key, expected, values, wrong), fails in zip(checks, failed, strict=True):
        if fails:
            raise ValueError(f"{key}: expected {expected}, got {values[wrong][0].item():g}")
