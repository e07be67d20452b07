"""Leave conditions out: at random in training, by name for guidance (paper §2.2.3 and §4, World Model).

A condition that is left out becomes absent, which is not zero: NaN for numbers, -1 for categories. Camera geometry and
timestamps are never left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from einops import rearrange, repeat

from gaia2.scene import METADATA
from gaia2.scene.validation import nearest

Conditioning = dict[str, torch.Tensor]

DROPPABLE = ("speed", "curvature", "agents", "metadata", "clip_embedding", "scenario_embedding")
"""Keys of a conditioning that can be absent."""


def drop_all(conditioning: Conditioning) -> Conditioning:
    """Return the conditioning with everything absent that can be: the other branch of classifier-free guidance.

    Args:
        conditioning: Tensors by name; not changed.

    Returns:
        A new dict; tensors that stay are shared.

    Example:
        >>> drop_all({"timestamps": torch.zeros(1, 3, 5), "metadata": torch.tensor([[2, 0]])})["metadata"]
        tensor([[-1, -1]])
    """
    return drop(conditioning, [key for key in DROPPABLE if key in conditioning])


def drop(
    conditioning: Conditioning, names: Iterable[str], *, metadata_names: Sequence[str] = tuple(METADATA)
) -> Conditioning:
    """Return the conditioning with some conditions absent.

    Args:
        conditioning: Tensors by name; not changed.
        names: Keys of `DROPPABLE`, or names of single metadata columns. One that is not there anyway does no harm.
        metadata_names: Names of the columns of `metadata`.

    Returns:
        A new dict; tensors that stay are shared.

    Raises:
        ValueError: If a name is neither droppable nor a metadata name.

    Example:
        >>> drop({"metadata": torch.tensor([[2, 0]])}, ["b"], metadata_names=("a", "b"))["metadata"]
        tensor([[ 2, -1]])
    """
    result = dict(conditioning)
    for name in names:
        if name in DROPPABLE:
            if name in result:
                result[name] = _absent_like(name, result[name])
        elif name in metadata_names:
            if "metadata" in result:
                column = torch.arange(len(metadata_names)) == list(metadata_names).index(name)
                result["metadata"] = result["metadata"].masked_fill(column.to(result["metadata"].device), -1)
        else:
            known = (*DROPPABLE, *metadata_names)
            raise ValueError(
                f"drop: cannot drop {name!r}; did you mean {nearest(name, known)!r}? "
                f"Expected any of: {', '.join(known)}"
            )
    return result


def _absent_like(key: str, tensor: torch.Tensor) -> torch.Tensor:
    if key == "metadata":
        return torch.full_like(tensor, -1)
    absent = torch.full_like(tensor, torch.nan)
    if key == "agents":
        absent[..., -1] = -1
    return absent


def blank_cameras(conditioning: Conditioning, camera_mask: torch.Tensor) -> Conditioning:
    """Return the conditioning without a trace of the cameras that do not take part.

    Their geometry becomes that of a plain camera at the ego origin, their agents absent.

    Args:
        conditioning: Tensors by name; not changed. What the masked cameras hold, NaN too, does not matter.
        camera_mask: Boolean `(b, n)`, true for cameras that take part.

    Returns:
        A new dict; tensors that know no cameras are shared.

    Example:
        >>> timestamps = torch.tensor([[[0.4, float("nan")]]])
        >>> blank_cameras({"timestamps": timestamps}, torch.tensor([[True, False]]))["timestamps"].tolist()
        [[[0.4..., 0.0]]]
    """
    neutral = {
        "timestamps": lambda x: torch.zeros_like(x),
        "intrinsics": lambda x: torch.ones_like(x),
        "extrinsics": lambda x: torch.eye(4, dtype=x.dtype, device=x.device).expand_as(x),
        "distortion": lambda x: torch.zeros_like(x),
        "distortion_model": lambda x: torch.zeros_like(x),
        "agents": lambda x: _absent_like("agents", x),
    }
    result = dict(conditioning)
    for key in [key for key in neutral if key in conditioning]:
        value = conditioning[key]
        axes = "b n -> b 1 n" if key in ("timestamps", "agents") else "b n -> b n"
        mask = rearrange(camera_mask, axes)
        mask = mask.reshape(*mask.shape, *(1,) * (value.ndim - mask.ndim))
        result[key] = torch.where(mask, value, neutral[key](value))
    return result


class ConditioningDropout:
    """Leave conditions out at random, sample by sample (paper §2.2.3 and §4, World Model).

    Speed, curvature, agents, each metadata name, CLIP and scenario embedding are each dropped with probability
    `individual`, and all together with probability `all`. Of the agents that remain, single features are dropped, and
    for each camera the number of agents is cut to one that is the same at all times.

    Args:
        individual: Probability that a condition is dropped, each on its own.
        all: Probability that all conditions of a sample are dropped at once.
        camera: Probability that a camera view is dropped; see `drop_cameras`.
        alone: Probability that all views but one are dropped, so that a single camera is learnt too; not of the paper.
        agent_feature: Probability that one of the 13 agent features is dropped, for all agents of a sample.
        agent_instances: Whether the number of agents is cut.

    Raises:
        ValueError: If a probability is not in [0, 1].

    Example:
        >>> dropout = ConditioningDropout(individual=0.5, all=0.0)
        >>> speed = torch.full((4, 3), 12.0)
        >>> kept = dropout({"speed": speed}, generator=torch.Generator().manual_seed(0))["speed"].isfinite()
        >>> kept.shape, torch.equal(kept.any(dim=1), kept.all(dim=1))
        (torch.Size([4, 3]), True)
    """

    def __init__(
        self,
        *,
        individual: float = 0.8,
        all: float = 0.1,
        camera: float = 0.1,
        alone: float = 0.0,
        agent_feature: float = 0.3,
        agent_instances: bool = True,
    ) -> None:
        for name, value in (
            ("individual", individual),
            ("all", all),
            ("camera", camera),
            ("alone", alone),
            ("agent_feature", agent_feature),
        ):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: expected a probability from 0 to 1, got {value}")
        self.individual = individual
        self.all = all
        self.camera = camera
        self.alone = alone
        self.agent_feature = agent_feature
        self.agent_instances = agent_instances

    def __call__(self, conditioning: Conditioning, generator: torch.Generator | None = None) -> Conditioning:
        """Drop conditions.

        Args:
            conditioning: Tensors by name, batched; not changed.
            generator: Random numbers, of any device; the same state gives the same result.

        Returns:
            A new dict with the same keys and shapes.
        """
        result = dict(conditioning)
        keys = [key for key in DROPPABLE if key in conditioning]
        if not keys:
            return result
        first = conditioning[keys[0]]
        widths = [conditioning[key].shape[1] if key == "metadata" else 1 for key in keys]
        draws = _uniform((first.shape[0], 1 + sum(widths)), generator, first.device)
        dropped = (draws[:, :1] < self.all) | (draws[:, 1:] < self.individual)
        if "agents" in conditioning:
            result["agents"] = self._thin_agents(conditioning["agents"], generator)
        for key, columns in zip(keys, dropped.split(widths, dim=1), strict=True):
            value = result[key]
            columns = columns.reshape(*columns.shape, *(1,) * (value.ndim - 2))
            result[key] = torch.where(columns, _absent_like(key, value), value)
        return result

    def drop_cameras(
        self,
        b: int,
        n: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> torch.Tensor:
        """Choose the camera views that take part.

        Args:
            b: Samples.
            n: Cameras.
            generator: Random numbers.
            device: Where the result lies; None is the generator's device or, without one, the CPU.

        Returns:
            `(b, n)` bool, true where a camera is kept; at least one of each sample.

        Example:
            >>> ConditioningDropout(camera=1.0).drop_cameras(2, 5).sum(dim=1).tolist()
            [1, 1]
        """
        if device is None:
            device = "cpu" if generator is None else generator.device
        alone, draws = _uniform((b, 1 + n), generator, torch.device(device)).split([1, n], dim=1)
        dropped = (draws < self.camera) | (alone < self.alone)
        return ~dropped | (draws == draws.amax(dim=1, keepdim=True))

    def _thin_agents(self, agents: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        if self.agent_instances:
            agents = _cut_instances(agents, generator)
        there = agents[..., -1:] >= 0
        feature = _uniform((agents.shape[0], agents.shape[-1]), generator, agents.device) < self.agent_feature
        return agents.masked_fill(rearrange(feature, "b k -> b 1 1 1 k") & there, torch.nan)


def _cut_instances(agents: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Cut the agents `(b, t, n, m, 13)` of each camera to a number that is the same at all times (paper §2.2.3).

    A frame is sampled for each camera; the number is uniform from 0 to the agents in that frame. Which ones are kept
    follows a random order of the rows, one for each sample, so that rows which hold the same agent at all times and in
    all cameras keep doing so.
    """
    b, t, n, m, _ = agents.shape
    there = agents[..., -1] >= 0
    draws = _uniform((b, 2 * n + m), generator, agents.device)
    frame, share, order = draws.split([n, n, m], dim=1)
    frame = (frame * t).long().clamp(max=t - 1)
    count = there.sum(dim=-1).gather(1, rearrange(frame, "b n -> b 1 n"))
    number = ((count + 1) * rearrange(share, "b n -> b 1 n")).long().minimum(count)
    order = repeat(order.argsort(dim=1), "b m -> b t n m", t=t, n=n)
    place = there.gather(-1, order).cumsum(dim=-1)  # among those there, in the random order, from 1
    place = torch.empty_like(place).scatter_(-1, order, place)
    keep = there & (place <= rearrange(number, "b 1 n -> b 1 n 1"))
    return torch.where(keep[..., None], agents, _absent_like("agents", agents))


def _uniform(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> torch.Tensor:
    """Uniform numbers, drawn where the generator lives."""
    if generator is None:
        return torch.rand(shape, device=device)
    return torch.rand(shape, generator=generator, device=generator.device).to(device)
