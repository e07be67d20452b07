"""Checks of what is given to a step: flow times and random numbers. They wait for no device."""

from __future__ import annotations

from typing import Any

import torch

from gaia2._checks import real_number, refuse

ROUNDING = 1e-3  # flow times may come in bfloat16


def check_time(name: str, tau: Any) -> None:
    """Check flow times; those of a tensor on a device that works ahead of us only for their kind.

    Args:
        name: The argument's name.
        tau: A number or a tensor.

    Raises:
        ValueError: If one is no number in [0, 1].

    Example:
        >>> check_time("timestep", 999)
        Traceback (most recent call last):
        ...
        ValueError: timestep: expected a flow time from 0 to 1, got 999; 0 is noise, 1 is data
    """
    hint = "0 is noise, 1 is data"
    if not isinstance(tau, torch.Tensor):
        real_number(name, tau, 0, 1, what="a flow time", hint=hint)
        return
    if tau.is_complex() or tau.dtype == torch.bool:
        raise refuse(name, "flow times from 0 to 1", tau, hint)
    if tau.device.type == "cpu" and tau.numel() and not torch.compiler.is_compiling():
        low, high = (float(value) for value in tau.detach().aminmax())
        if not -ROUNDING <= low <= high <= 1 + ROUNDING:
            raise refuse(name, "flow times from 0 to 1", low if not low >= 0 else high, hint)


def check_generator(generator: Any, batch_size: int) -> None:
    """Check that random numbers are a `torch.Generator`, one for each sample, or none.

    Raises:
        ValueError: If they are something else.

    Example:
        >>> check_generator(0, 1)
        Traceback (most recent call last):
        ...
        ValueError: generator: expected a torch.Generator, or a list of 1, got 0; take torch.Generator().manual_seed(0)
    """
    if generator is None or isinstance(generator, torch.Generator):
        return
    if not isinstance(generator, list) or not all(isinstance(one, torch.Generator) for one in generator):
        hint = "take torch.Generator().manual_seed(0)"
        raise refuse("generator", f"a torch.Generator, or a list of {batch_size}", generator, hint)
    if len(generator) != batch_size:
        raise ValueError(f"generator: expected one, or one for each of {batch_size} samples, got {len(generator)}")
