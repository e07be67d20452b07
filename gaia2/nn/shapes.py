"""Shape checks whose messages name the axes: expected, got, and what to do."""

from __future__ import annotations

import torch


def check_axes(name: str, tensor: torch.Tensor, axes: str, *, hint: str = "", **sizes: int) -> None:
    """Raise unless `tensor` has the named axes and, where given, their sizes.

    Reads shapes only: no device synchronisation, and `torch.compile` sees constants.

    Args:
        name: What the caller calls the tensor; opens the message.
        tensor: The tensor to check.
        axes: Axis letters separated by spaces, e.g. `"b t n h w c"`.
        hint: What the reader of the message can do about it.
        **sizes: Required size of some of the axes.

    Raises:
        ValueError: If the number of axes or one of the sizes differs.

    Example:
        >>> check_axes("latents", torch.zeros(1, 3, 4), "b t c", c=4)
        >>> check_axes("latents", torch.zeros(1, 3, 4), "b t c", c=64, hint="encode the frames first")
        Traceback (most recent call last):
        ...
        ValueError: latents: expected (b, t, c=64), got (1, 3, 4); encode the frames first
    """
    letters = axes.split()
    shape = tuple(tensor.shape)
    if len(shape) == len(letters) and all(sizes.get(a, s) == s for a, s in zip(letters, shape, strict=True)):
        return
    expected = ", ".join(f"{a}={sizes[a]}" if a in sizes else a for a in letters)
    raise ValueError(f"{name}: expected ({expected}), got {shape}" + (f"; {hint}" if hint else ""))
