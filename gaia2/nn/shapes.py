"""Shape checks whose messages name the axes: expected, got, and what to do."""

from __future__ import annotations

import torch

from gaia2._checks import missed_axes, shown, whole_number

MAX_CHANNELS = 1 << 20


def check_channels(**channels: int) -> None:
    """Raise unless each argument is a number of channels.

    Raises:
        ValueError: If one is no whole number, not positive, or beyond any model's.

    Example:
        >>> check_channels(dim=0)
        Traceback (most recent call last):
        ...
        ValueError: dim: expected a whole number from 1 to 1048576, got 0
    """
    for name, value in channels.items():
        whole_number(name, value, 1, MAX_CHANNELS)


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
        ValueError: If it is no tensor, or the number of axes or one of the sizes differs.

    Example:
        >>> check_axes("latents", torch.zeros(1, 3, 4), "b t c", c=4)
        >>> check_axes("latents", torch.zeros(1, 3, 4), "b t c", c=64, hint="encode the frames first")
        Traceback (most recent call last):
        ...
        ValueError: latents: expected (b, t, c=64), got (1, 3, 4); encode the frames first
    """
    letters = axes.split()
    wanted = [sizes.get(letter) for letter in letters]
    shape = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else (-1,) * (len(letters) + 1)
    expected = missed_axes(shape, letters, wanted)
    if expected is not None:
        got = str(shape) if isinstance(tensor, torch.Tensor) else shown(tensor)
        kind = "" if isinstance(tensor, torch.Tensor) else "a torch.Tensor "
        raise ValueError(f"{name}: expected {kind}({expected}), got {got}" + (f"; {hint}" if hint else ""))


def check_floats(name: str, tensor: torch.Tensor, axes: str, *, hint: str = "", **sizes: int) -> None:
    """`check_axes` for a tensor that has to hold floating-point numbers.

    Example:
        >>> check_floats("frames", torch.zeros(2, 3, dtype=torch.uint8), "b c")
        Traceback (most recent call last):
        ...
        ValueError: frames: expected floating-point numbers, got torch.uint8; convert the tensor
    """
    check_axes(name, tensor, axes, hint=hint, **sizes)
    if not tensor.is_floating_point():
        raise ValueError(f"{name}: expected floating-point numbers, got {tensor.dtype}; convert the tensor")


def check_bools(name: str, tensor: torch.Tensor, axes: str, *, hint: str = "", **sizes: int) -> None:
    """`check_axes` for a mask.

    Example:
        >>> check_bools("mask", torch.ones(2, 3), "b k")
        Traceback (most recent call last):
        ...
        ValueError: mask: expected a boolean tensor, got torch.float32; use mask.bool()
    """
    check_axes(name, tensor, axes, hint=hint, **sizes)
    if tensor.dtype != torch.bool:
        raise ValueError(f"{name}: expected a boolean tensor, got {tensor.dtype}; use {name}.bool()")


def check_like(name: str, tensor: torch.Tensor, other_name: str, other: torch.Tensor) -> None:
    """Raise unless both are tensors of floating-point numbers of one shape.

    Example:
        >>> check_like("eps", torch.zeros(2), "x", torch.zeros(3))
        Traceback (most recent call last):
        ...
        ValueError: eps: expected the axes of x, (3,), got (2,)
    """
    check_last_axis(other_name, other, rank=0)
    check_last_axis(name, tensor, rank=0)
    if tensor.shape != other.shape:
        raise ValueError(f"{name}: expected the axes of {other_name}, {tuple(other.shape)}, got {tuple(tensor.shape)}")


def check_last_axis(name: str, tensor: torch.Tensor, channels: int | None = None, rank: int = 1) -> None:
    """Raise unless `tensor` holds floating-point numbers `(..., c)`.

    Args:
        name: What the caller calls the tensor.
        tensor: The tensor to check.
        channels: Size of the last axis; None is any.
        rank: Axes that it has at least.

    Raises:
        ValueError: If it is something else.

    Example:
        >>> check_last_axis("hidden_states", torch.zeros(2, 3), channels=4)
        Traceback (most recent call last):
        ...
        ValueError: hidden_states: expected (..., c=4), got (2, 3)
    """
    size = "c" if channels is None else f"c={channels}"
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{name}: expected a torch.Tensor (..., {size}), got {shown(tensor)}")
    if tensor.dim() < rank or (channels is not None and tensor.shape[-1] != channels):
        axes = f"at least {rank} axes, (..., {size})" if tensor.dim() < rank else f"(..., {size})"
        raise ValueError(f"{name}: expected {axes}, got {tuple(tensor.shape)}")
    if not tensor.is_floating_point():
        raise ValueError(f"{name}: expected floating-point numbers, got {tensor.dtype}; convert the tensor")


def unexpanded(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with length 1 along the axes where it was expanded: it broadcasts to the same, and is smaller.

    Reads strides only: no device synchronisation.

    Example:
        >>> unexpanded(torch.zeros(2, 3, 1).expand(2, 3, 5)).shape
        torch.Size([2, 3, 1])
    """
    for axis, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[axis] > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor
