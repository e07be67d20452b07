"""One step of the world model's training: what it draws, and the loss of it (paper §2.2.2 and §4, World Model).

Axes: b batch, t latent time, n cameras, h w latent grid, c channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from einops import rearrange
from torch import nn

from gaia2.conditioning.condition import Conditioning
from gaia2.conditioning.dropout import ConditioningDropout, keep_scenario_alone
from gaia2.conditioning.table import ConditionTable, standard_conditions
from gaia2.conditioning.timestamp import relative_to_present
from gaia2.losses.flow_matching import flow_matching_loss
from gaia2.schedulers.path import interpolate, velocity
from gaia2.schedulers.time_sampling import BimodalLogitNormal
from gaia2.training.tasks import TaskSampler


class WorldModelExample(NamedTuple):
    """What the world model is shown, and what it should answer.

    Attributes:
        noisy: `(b, t, n, h, w, c)`, given tokens as they are (but for context noise), the others at flow time `tau`.
        tau: `(b,)`.
        conditioning: Tensors by name, some left out.
        known_mask: `(b, t, n, h, w)` bool, true for given tokens.
        camera_mask: `(b, n)` bool, true for cameras that take part.
        target: The velocity `x - eps`, `(b, t, n, h, w, c)`.
    """

    noisy: torch.Tensor
    tau: torch.Tensor
    conditioning: Conditioning
    known_mask: torch.Tensor
    camera_mask: torch.Tensor
    target: torch.Tensor

    @property
    def counts(self) -> torch.Tensor:
        """Which tokens the loss counts, `(b, t, n, h, w)` bool: those that are not given, of cameras that take part."""
        return ~self.known_mask & rearrange(self.camera_mask, "b n -> b 1 n 1 1")


@dataclass(frozen=True)
class WorldModelStep:
    """Draws training examples: a task, a flow time, noise, and what is left out.

    Attributes:
        tasks: From scratch, from context, inpainting.
        times: Flow times.
        dropout: Conditions and cameras that are left out.
        context_noise: Given tokens of a context are mixed with noise up to this share, uniformly, so that a rollout
            bears its own errors; 0 (paper) gives them as they are.
        scenario_share: Share of samples that have their scenario embedding in place of what it was made of, the others
            have none, see `keep_scenario_alone`; None (paper) leaves it to the dropout.

    Example:
        >>> step = WorldModelStep(dropout=ConditioningDropout(individual=0.0, all=0.0, camera=0.0))
        >>> x, given = torch.randn(2, 3, 1, 4, 8, 16), {"timestamps": torch.zeros(2, 3, 1)}
        >>> example = step.draw(x, given, torch.Generator().manual_seed(0))
        >>> example.noisy.shape, example.tau.shape
        (torch.Size([2, 3, 1, 4, 8, 16]), torch.Size([2]))
    """

    tasks: TaskSampler = field(default_factory=TaskSampler)
    times: BimodalLogitNormal = field(default_factory=BimodalLogitNormal)
    dropout: ConditioningDropout = field(default_factory=ConditioningDropout)
    context_noise: float = 0.0
    scenario_share: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.context_noise <= 1:
            raise ValueError(f"context_noise: expected a share from 0 to 1, got {self.context_noise}")

    def draw(self, x: torch.Tensor, conditioning: Conditioning, generator: torch.Generator) -> WorldModelExample:
        """Draw what the model shall do with latents.

        Args:
            x: Normalised latents `(b, t, n, h, w, c)`.
            conditioning: All their conditions by name; timestamps in any frame of reference.
            generator: Random numbers, a CPU one.
        """
        b, _, n = x.shape[:3]
        agents = conditioning.get("agents")
        known_mask, context_length = self.tasks.sample(
            tuple(x.shape[:5]),  # type: ignore[arg-type]
            agents=None if agents is None else agents.cpu(),
            generator=generator,
        )
        if self.scenario_share is not None:
            conditioning = keep_scenario_alone(conditioning, self.scenario_share, self.dropout.conditions, generator)
        conditioning = self.dropout(conditioning, generator=generator)
        context_length = context_length.to(x.device)
        conditioning["timestamps"] = relative_to_present(conditioning["timestamps"], context_length)
        camera_mask = self.dropout.drop_cameras(b, n, generator=generator)
        tau = self.times.sample(b, generator=generator).to(x.device)
        eps = torch.randn(x.shape, generator=generator).to(x.device)
        known = known_mask.to(x.device)
        given = x
        if self.context_noise:
            share = self.context_noise * torch.rand(b, generator=generator).to(x.device) * (context_length > 0)
            given = interpolate(x, torch.randn(x.shape, generator=generator).to(x.device), 1 - share)
        noisy = torch.where(known[..., None], given, interpolate(x, eps, tau))
        return WorldModelExample(noisy, tau, conditioning, known, camera_mask.to(x.device), velocity(x, eps))

    def draw_each(
        self, x: torch.Tensor, conditioning: Conditioning, generators: Sequence[torch.Generator]
    ) -> WorldModelExample:
        """As `draw`, each sample with random numbers of its own: the same whatever it is in a batch with."""
        drawn = []
        for index, generator in enumerate(generators):
            row = slice(index, index + 1)
            drawn.append(self.draw(x[row], {key: value[row] for key, value in conditioning.items()}, generator))
        return join_examples(drawn)


def join_examples(examples: Sequence[WorldModelExample]) -> WorldModelExample:
    """Several examples as one batch."""
    noisy, tau, conditionings, known_mask, camera_mask, target = zip(*examples, strict=True)
    return WorldModelExample(
        noisy=torch.cat(noisy),
        tau=torch.cat(tau),
        conditioning={key: torch.cat([one[key] for one in conditionings]) for key in conditionings[0]},
        known_mask=torch.cat(known_mask),
        camera_mask=torch.cat(camera_mask),
        target=torch.cat(target),
    )


def split_example(example: WorldModelExample, size: int) -> list[WorldModelExample]:
    """An example as micro-batches of `size` samples, the last one perhaps smaller."""
    rows = [slice(first, first + size) for first in range(0, len(example.tau), size)]
    return [
        WorldModelExample(
            **{name: value[row] for name, value in example._asdict().items() if name != "conditioning"},
            conditioning={key: value[row] for key, value in example.conditioning.items()},
        )
        for row in rows
    ]


def counted(example: WorldModelExample, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Number of tokens that the loss counts, or the sum of their weights `(b, t, n, h, w)`."""
    counts = example.counts
    return counts.sum() if weight is None else weight.masked_fill(~counts, 0.0).sum()


def world_model_loss(
    model: nn.Module,
    example: WorldModelExample,
    weight: torch.Tensor | None = None,
    *,
    total: float | None = None,
) -> torch.Tensor:
    """Squared error of the predicted velocity, over tokens that are not given, of cameras that take part (paper Eq. 4).

    Args:
        model: The world model.
        example: From `WorldModelStep.draw`.
        weight: `(b, t, n, h, w)`, how much each token counts; None is equally.
        total: What `counted` gives of the whole step, of which this example is a part; None is of this example. The
            losses of all parts, each divided by the same total, add up to the loss of the step.

    Returns:
        A number.
    """
    predicted = model(
        example.noisy,
        example.tau,
        example.conditioning,
        known_mask=example.known_mask,
        camera_mask=example.camera_mask,
    ).sample
    mean = flow_matching_loss(predicted, example.target, example.known_mask, example.camera_mask, weight)
    return mean if total is None else mean * (counted(example, weight) / max(total, 1e-12))


def choose_cameras(
    tensors: dict[str, torch.Tensor],
    conditioning: Conditioning,
    count: int,
    generator: torch.Generator,
    conditions: ConditionTable | None = None,
) -> tuple[dict[str, torch.Tensor], Conditioning]:
    """Keep a random subset of the cameras of each sample, in their order; fewer cameras cost less.

    Args:
        tensors: Tensors `(b, t, n, ...)` by name.
        conditioning: Conditions by name.
        count: Cameras to keep, at most n.
        generator: Random numbers, a CPU one.
        conditions: The conditions there are; those of the paper by default.

    Returns:
        Both, with `count` cameras.

    Example:
        >>> x = torch.arange(3.0).reshape(1, 1, 3)
        >>> generator = torch.Generator().manual_seed(0)
        >>> kept, _ = choose_cameras({"x": x}, {"intrinsics": x.mT.expand(1, 3, 4)}, 2, generator)
        >>> kept["x"].shape
        torch.Size([1, 1, 2])
    """
    b, n = next((value.shape[0], value.shape[2]) for value in tensors.values())
    chosen = torch.rand(b, n, generator=generator).argsort(dim=1)[:, :count].sort(dim=1).values

    def keep(value: torch.Tensor, axis: int) -> torch.Tensor:
        index = chosen.to(value.device).reshape(b, *(1,) * (axis - 1), count, *(1,) * (value.ndim - axis - 1))
        return value.take_along_dim(index, dim=axis)

    table = standard_conditions() if conditions is None else conditions
    letters = {key: table.key(key).letters for key in conditioning}
    kept = {
        key: keep(value, letters[key].index("n")) if "n" in letters[key] else value
        for key, value in conditioning.items()
    }
    return {key: keep(value, 2) for key, value in tensors.items()}, kept


def choose_cameras_of_each(
    tensors: dict[str, torch.Tensor],
    conditioning: Conditioning,
    count: int,
    generators: Sequence[torch.Generator],
    conditions: ConditionTable | None = None,
) -> tuple[dict[str, torch.Tensor], Conditioning]:
    """As `choose_cameras`, each sample with random numbers of its own."""
    chosen = []
    for index, generator in enumerate(generators):
        row = slice(index, index + 1)
        one, given = ({key: value[row] for key, value in part.items()} for part in (tensors, conditioning))
        chosen.append(choose_cameras(one, given, count, generator, conditions))
    first, second = (
        {key: torch.cat([one[key] for one in parts]) for key in parts[0]} for parts in zip(*chosen, strict=True)
    )
    return first, second
