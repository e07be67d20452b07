"""The world model's loss on clips that it is not trained on, always with the same noise and flow times (paper §6.3).

Axes: b batch, t latent time, n cameras, h w latent grid, c channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from torch import nn

from gaia2.conditioning.dropout import ConditioningDropout
from gaia2.losses.flow_matching import flow_matching_loss
from gaia2.schedulers.time_sampling import BimodalLogitNormal
from gaia2.training.ranks import Ranks
from gaia2.training.sampling import step_generator
from gaia2.training.tasks import TaskSampler
from gaia2.training.world_model_step import WorldModelExample, WorldModelStep, join_examples

TASKS = {
    "scratch": TaskSampler(context=0.0, inpainting=0.0),
    "context": TaskSampler(context=1.0, inpainting=0.0),
    "inpainting": TaskSampler(context=0.0, inpainting=1.0),
}
TAU_EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Borders of the buckets of flow times."""
NOTHING_LEFT_OUT = ConditioningDropout(individual=0.0, all=0.0, camera=0.0, agent_feature=0.0, agent_instances=False)
SEED = 321

Batch = tuple[torch.Tensor, dict[str, torch.Tensor]]


@torch.no_grad()
def validate_world_model(
    model: nn.Module,
    batches: Iterable[tuple[range, Batch]],
    count: int,
    mean: Callable[[torch.Tensor], torch.Tensor],
    ranks: Ranks | None = None,
) -> dict[str, float]:
    """Loss with all conditions, by task and by flow time.

    Noise, hole and context of a clip depend on its number alone, and the flow times of all clips are evenly spread over
    the paper's distribution: the figures of two runs on the same clips can be compared.

    Args:
        model: The world model, with the weights that are to be judged.
        batches: Numbers of clips from 0 to `count - 1`, and of each clip latents `(b, t, n, h, w, c)` and conditions;
            this rank's share. All ranks have the same number of batches; one whose numbers are empty is computed, as
            the other ranks need it, and does not count.
        count: Held-out clips in all.
        mean: From latents to the mean of the training's latents, for comparison.
        ranks: Who shares the clips.

    Returns:
        `loss` from scratch, and as a share of what predicting the mean velocity gives (`ratio`); `context` and
        `inpainting`, the losses of those tasks; and `tau_0.1_0.25` and so on, the loss from scratch in buckets.
    """
    ranks = Ranks() if ranks is None else ranks
    taus = spread_flow_times(count)
    errors = torch.zeros(len(TASKS) + len(TAU_EDGES), dtype=torch.float64)  # the last one: of the mean velocity
    counts = torch.zeros_like(errors)
    edges = torch.tensor(TAU_EDGES[1:-1])

    for rows, (x, conditioning) in batches:
        for place, (task, sampler) in enumerate(TASKS.items()):
            example = _example(sampler, rows or range(len(x)), x, conditioning, taus)
            predicted = model(example.noisy, example.tau, example.conditioning, known_mask=example.known_mask).sample
            for row in range(len(rows)):
                given, target = example.known_mask[row : row + 1], example.target[row : row + 1]
                if bool(given.all()):
                    continue
                bucket = len(TASKS) + int(torch.bucketize(example.tau[row].cpu(), edges))
                error = float(flow_matching_loss(predicted[row : row + 1], target, given))
                places = [place] if task != "scratch" else [place, bucket]
                errors[places] += error
                counts[places] += 1
                if task == "scratch":
                    errors[-1] += float(flow_matching_loss(mean(target), target))

    summed = ranks.sum(*errors, *counts)
    errors, counts = (torch.tensor(part) for part in (summed[: len(errors)], summed[len(errors) :]))
    losses = errors / counts
    names = [*TASKS, *(f"tau_{low:g}_{high:g}" for low, high in pairwise(TAU_EDGES))]
    result = {name: float(loss) for name, loss in zip(names, losses, strict=False) if loss.isfinite()}
    return {"loss": result.pop("scratch"), "ratio": float(errors[0] / errors[-1]), **result}


def spread_flow_times(count: int, times: BimodalLogitNormal | None = None) -> torch.Tensor:
    """Flow times `(count,)` whose distribution is that of the training as nearly as it can be, in a mixed order.

    Example:
        >>> bool((spread_flow_times(1000).mean() - BimodalLogitNormal().sample(100_000).mean()).abs() < 0.01)
        True
    """
    times = BimodalLogitNormal() if times is None else times
    wanted = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    low, high = torch.full_like(wanted, -40.0), torch.full_like(wanted, 40.0)
    share = times.secondary_probability
    for _ in range(60):  # bisection of the distribution of the logit
        middle = (low + high) / 2
        first = torch.special.ndtr((middle - times.mean) / times.std)
        second = torch.special.ndtr((middle - times.secondary_mean) / times.secondary_std)
        below = (1 - share) * first + share * second < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(SEED))
    return low.sigmoid().float()[order]


def _example(
    tasks: TaskSampler, rows: range, x: torch.Tensor, conditioning: dict[str, torch.Tensor], taus: torch.Tensor
) -> WorldModelExample:
    """Examples of one task, all with nothing left out and with given flow times."""
    drawn = []
    for index, row in enumerate(rows):
        one = slice(index, index + 1)
        step = WorldModelStep(tasks=tasks, times=_Fixed(float(taus[row])), dropout=NOTHING_LEFT_OUT)  # type: ignore[arg-type]
        given = {key: value[one] for key, value in conditioning.items()}
        drawn.append(step.draw(x[one], given, step_generator(SEED, row)))
    return join_examples(drawn)


class _Fixed:
    """A distribution of flow times that has one value."""

    def __init__(self, tau: float) -> None:
        self.tau = tau

    def sample(self, batch_size: int, *, generator: torch.Generator) -> torch.Tensor:
        torch.rand(2 * batch_size, generator=generator)
        return torch.full((batch_size,), self.tau)
