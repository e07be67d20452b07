"""Distillation to few steps: a student learns the mean velocity of a teacher over each of its own, longer steps.

Axes: b batch, t latent time, n cameras, h w latent grid, c channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn

from gaia2._checks import whole_number
from gaia2.conditioning.condition import Conditioning
from gaia2.conditioning.encoder import EncodedConditioning
from gaia2.losses.flow_matching import flow_matching_loss

Velocity = Callable[[torch.Tensor, float], torch.Tensor]
"""Velocity `(b, t, n, h, w, c)` of latents at a flow time."""


def teacher_times(grid: Sequence[float], steps: int) -> list[list[float]]:
    """Flow times between which the teacher steps, for each of the student's steps.

    Each is divided evenly into `steps` parts, or into fewer where these would be shorter than the steps of an even grid
    of as many in all: near noise, where the grids of sampling are fine already, the teacher takes the student's step.

    Args:
        grid: Flow times of the student, from 0 to 1.
        steps: Parts, at most.

    Example:
        >>> teacher_times([0.0, 0.1, 1.0], 2)
        [[0.0, 0.1], [0.1, 0.55, 1.0]]
    """
    whole_number("teacher_steps", steps, 1)
    widest = 1 / (steps * (len(grid) - 1))
    times = []
    for first, last in pairwise(grid):
        parts = min(steps, max(1, math.ceil((last - first) / widest - 1e-9)))
        times.append([first + (last - first) * part / parts for part in range(parts)] + [last])
    return times


def follow(
    velocity_of: Velocity, latents: torch.Tensor, times: Sequence[float], known_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Where latents are after Euler's steps from each flow time to the next.

    Args:
        velocity_of: The velocity.
        latents: `(b, t, n, h, w, c)` at the first flow time.
        times: Rising flow times, at least two.
        known_mask: Boolean `(b, t, n, h, w)`, true for tokens that are given, which stay as they are.

    Example:
        >>> follow(lambda x, tau: x.new_full(x.shape, 2 * tau), torch.zeros(1, 1, 1, 1, 1, 1), [0.0, 0.5, 1.0]).item()
        0.5
    """
    for now, then in pairwise(times):
        moved = latents + (then - now) * velocity_of(latents, now).to(latents.dtype)
        latents = moved if known_mask is None else torch.where(known_mask[..., None], latents, moved)
    return latents


def few_step_loss(
    student: Velocity,
    teacher: Velocity,
    latents: torch.Tensor,
    times: Sequence[float],
    known_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared error of one step of the student, and where it leads.

    The teacher goes from the latents through all `times`, without gradients; the student should get to the same place
    in one step, with the mean velocity of that way. Its next step begins where this one led, so that it learns from the
    places that it will come to when it generates.

    Args:
        student: Its velocity.
        teacher: Of the teacher, maybe guided.
        latents: `(b, t, n, h, w, c)` at the first of the times.
        times: Flow times of the teacher; the student's step is from the first to the last.
        known_mask: Boolean `(b, t, n, h, w)`, true for tokens that are given; they stay, and do not count.

    Returns:
        The mean over tokens that are not given, a number; and the latents at the last of the times, without gradient.

    Example:
        >>> noise, data = torch.zeros(1, 1, 1, 1, 1, 2), torch.ones(1, 1, 1, 1, 1, 2)
        >>> straight = lambda x, tau: (data - x) / (1 - tau)
        >>> loss, end = few_step_loss(straight, straight, noise, [0.0, 0.25, 1.0])
        >>> loss.item(), end.flatten()
        (0.0, tensor([1., 1.]))
    """
    first, last = times[0], times[-1]
    with torch.no_grad():
        target = (follow(teacher, latents, times, known_mask) - latents) / (last - first)
    predicted = student(latents, first)
    loss = flow_matching_loss(predicted, target, known_mask)
    end = follow(lambda _, __: predicted.detach(), latents, [first, last], known_mask)
    return loss, end


def frozen_velocity(
    model: nn.Module,
    conditioning: Conditioning,
    grid: tuple[int, int],
    known_mask: torch.Tensor | None = None,
    *,
    free: Conditioning | None = None,
    scale: float = 1.0,
) -> Velocity:
    """The velocity of a world model under given conditions, without gradients; they are encoded once.

    Args:
        model: The world model.
        conditioning: Its conditions.
        grid: Rows and columns h, w of the latents.
        known_mask: Boolean `(b, t, n, h, w)`, true for tokens that are given.
        free: Conditions of the other branch of guidance, `v = v_u + s (v_c - v_u)`; None is no guidance.
        scale: `s`.
    """
    with torch.no_grad():
        encoded: list[EncodedConditioning] = [
            model.encode_conditioning(one, grid=grid)  # type: ignore[operator]
            for one in ([conditioning] if free is None else [conditioning, free])
        ]

    @torch.no_grad()
    def velocity_of(latents: torch.Tensor, tau: float) -> torch.Tensor:
        at = torch.full((len(latents),), tau, device=latents.device)
        branches = [model(latents, at, one, known_mask=known_mask).sample.float() for one in encoded]
        return branches[0] if free is None else branches[1] + scale * (branches[0] - branches[1])

    return velocity_of


def distance(ends: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Root of the mean square of the difference of each sample, `(b,)`; normalised latents have a deviation near 1.

    Example:
        >>> distance(torch.zeros(2, 3), torch.tensor([[1.0, 1.0, 1.0], [3.0, 4.0, 0.0]]))
        tensor([1.0000, 2.8868])
    """
    return (ends.float() - others.float()).square().flatten(1).mean(dim=1).sqrt()
