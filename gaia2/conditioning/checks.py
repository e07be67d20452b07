"""Checks of a conditioning: axes, which cost nothing, and values, which have to be read from the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from gaia2.conditioning.condition import Check
from gaia2.conditioning.table import ConditionTable, standard_conditions
from gaia2.nn.shapes import check_axes


def check_axes_of(conditioning: Mapping[str, torch.Tensor], conditions: ConditionTable) -> dict[str, int]:
    """Check keys, axes and kinds of number; reads shapes only, so it is free on every device.

    Args:
        conditioning: Tensors by name.
        conditions: The conditions there are.

    Returns:
        The sizes of b, t and n.

    Raises:
        ValueError: If a key is missing or unknown, or a tensor does not have the axes of its key.

    Example:
        >>> check_axes_of({"timestamps": torch.zeros(1, 3, 5)}, standard_conditions())
        Traceback (most recent call last):
        ...
        ValueError: conditioning: expected the key 'intrinsics', got timestamps; scene_conditioning makes all of them
    """
    for key in conditioning:
        conditions.key(key)
    required = [key for key, spec in conditions.keys.items() if spec.required]
    required.sort(key=lambda key: conditions.keys[key].axes != "b t n")  # the one that says how many there are
    for key in required:
        if key not in conditioning:
            raise ValueError(
                f"conditioning: expected the key {key!r}, got {', '.join(conditioning) or 'none'}; "
                "scene_conditioning makes all of them"
            )
    check_axes(required[0], conditioning[required[0]], "b t n")
    sizes = dict(zip("btn", conditioning[required[0]].shape, strict=True))
    for key, tensor in conditioning.items():
        spec = conditions.keys[key]
        known = {letter: size for letter, size in {**spec.sizes, **sizes}.items() if letter in spec.letters}
        check_axes(key, tensor, spec.axes, hint="", **known)
        if tensor.is_floating_point() == spec.integer:
            kind = "integer ids" if spec.integer else "floating-point numbers"
            raise ValueError(f"{key}: expected {kind}, got {tensor.dtype}; convert the tensor")
    return sizes


def check_conditioning(conditioning: Mapping[str, torch.Tensor], conditions: ConditionTable | None = None) -> None:
    """Check a conditioning completely, values too. Reads from the device once: call it before a loop, not in it.

    Args:
        conditioning: Tensors by name.
        conditions: The conditions there are; those of the paper by default.

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
    conditions = standard_conditions() if conditions is None else conditions
    check_axes_of(conditioning, conditions)
    given = list(conditions.given(conditioning))
    checks = [check for condition, own in given for check in condition.checks(own)]
    _raise_first(checks + [check for condition, own in given for check in condition.plausibility_checks(own)])


def check_values(conditioning: Mapping[str, torch.Tensor], conditions: ConditionTable) -> None:
    """Check only the values that would spoil the result in silence: ids out of the vocabulary, NaN that may not be.

    Args:
        conditioning: Tensors by name, their axes checked.
        conditions: The conditions there are.

    Raises:
        ValueError: As `check_conditioning`, but for values that are merely implausible.
    """
    _raise_first([check for condition, own in conditions.given(conditioning) for check in condition.checks(own)])


def _raise_first(checks: list[Check]) -> None:
    failed = torch.stack([check.wrong.any() for check in checks]).tolist()
    for check, fails in zip(checks, failed, strict=True):
        if fails:
            raise check.error()
