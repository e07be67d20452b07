"""What a training sample is asked to do: generate all, predict the future, or fill a hole (paper §2.2.2, §4).

Every task is a mask of the tokens that are given. Axes: b batch, t latent time, n cameras, h w latent grid, m agents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch.nn import functional

from gaia2.conditioning.cells import covered
from gaia2.scene.box_features import CATEGORY, IMAGE_BOX

Shape = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class TaskSampler:
    """Draws tasks: 70% from scratch, 20% from context, 10% inpainting (paper §4).

    Attributes:
        context: Share of samples that are given the first 1 to t - 1 latents, uniformly.
        inpainting: Share of samples that are given all but a hole: an agent's dilated box, a space-time cuboid, or
            whole cameras.

    Example:
        >>> mask, context_length = TaskSampler().sample((4, 6, 2, 4, 8), generator=torch.Generator().manual_seed(0))
        >>> mask.shape, context_length.shape
        (torch.Size([4, 6, 2, 4, 8]), torch.Size([4]))
    """

    context: float = 0.2
    inpainting: float = 0.1

    def __post_init__(self) -> None:
        if min(self.context, self.inpainting) < 0 or self.context + self.inpainting > 1:
            raise ValueError(
                "context, inpainting: expected shares of at least 0 that add up to at most 1, "
                f"got {self.context} and {self.inpainting}"
            )

    def sample(
        self,
        shape: Shape,
        *,
        agents: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw a task for each sample of a batch.

        Args:
            shape: `(b, t, n, h, w)` of the latents.
            agents: Box features `(b, t, n, m, 13)`, the first four the image box in [0, 1]; without them inpainting
                uses cuboids and cameras only.
            generator: Random numbers.
            device: Where to draw them.

        Returns:
            The mask of given tokens, boolean `(b, t, n, h, w)`, and the number of context latents `(b,)`, 0 for the
            other tasks.
        """
        b, t = shape[:2]
        kind = torch.rand(b, generator=generator, device=device)
        length = 1 + _randint(torch.full((b,), max(1, t - 1), device=device), generator)
        length = torch.where(kind < self.context, length.clamp(max=t - 1), 0)
        given = torch.arange(t, device=device) < rearrange(length, "b -> b 1")
        mask = rearrange(given, "b t -> b t 1 1 1").expand(shape)
        fill = (kind >= self.context) & (kind < self.context + self.inpainting)
        hole = sample_hole(shape, agents=agents, generator=generator, device=device)
        return torch.where(rearrange(fill, "b -> b 1 1 1 1"), ~hole, mask), length


def sample_hole(
    shape: Shape,
    *,
    agents: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Regions to fill, boolean `(b, t, n, h, w)`: a cuboid, whole cameras, or one agent's boxes with a margin."""
    b = shape[0]
    cuboid = _cuboid(shape, generator, device)
    cameras = rearrange(_some_cameras(b, shape[2], generator, device), "b n -> b 1 n 1 1").expand(shape)
    choice = rearrange(torch.rand(b, generator=generator, device=device), "b -> b 1 1 1 1")
    hole = torch.where(choice < 1 / 3, cameras, cuboid)
    if agents is None:
        return hole
    tube = _agent_tube(shape, agents, generator)
    has_tube = tube.flatten(1).any(dim=1).reshape(b, 1, 1, 1, 1)
    return torch.where((choice > 2 / 3) & has_tube, tube, hole)


def _cuboid(shape: Shape, generator: torch.Generator | None, device: torch.device | str | None) -> torch.Tensor:
    """A box of random extent in time, height and width, in all cameras or one."""
    b, t, n, h, w = shape
    inside = []
    for size in (t, h, w):
        extent = 1 + _randint(torch.full((b,), size, device=device), generator)
        start = _randint(size - extent + 1, generator)
        position = torch.arange(size, device=device)
        inside.append((position >= start[:, None]) & (position < (start + extent)[:, None]))
    time, rows, columns = inside
    one_camera = torch.arange(n, device=device) == _randint(torch.full((b,), n, device=device), generator)[:, None]
    everywhere = torch.rand(b, 1, generator=generator, device=device) < 0.5
    return (
        rearrange(time, "b t -> b t 1 1 1")
        & rearrange(one_camera | everywhere, "b n -> b 1 n 1 1")
        & rearrange(rows, "b h -> b 1 1 h 1")
        & rearrange(columns, "b w -> b 1 1 1 w")
    )


def _some_cameras(b: int, n: int, generator: torch.Generator | None, device: torch.device | str | None) -> torch.Tensor:
    """One to n - 1 cameras of each sample, boolean `(b, n)`; the only one if there is one."""
    count = 1 + _randint(torch.full((b,), max(1, n - 1), device=device), generator)
    rank = torch.rand(b, n, generator=generator, device=device).argsort(dim=1).argsort(dim=1)
    return rank < count[:, None]


def _agent_tube(shape: Shape, agents: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """The cells under the image boxes over time of one of the agents that are seen at all, widened by one cell."""
    b, t, n, h, w = shape
    seen = (agents[..., CATEGORY] >= 0) & agents[..., IMAGE_BOX].isfinite().all(dim=-1)
    there = rearrange(seen, "b t n m -> b m (t n)").any(dim=-1)
    chosen = 1 + _randint(there.sum(dim=1).clamp(min=1), generator)
    row = (there.cumsum(dim=1) == chosen[:, None]).int().argmax(dim=1)
    boxes = agents[torch.arange(b, device=agents.device), :, :, row]
    cells = covered(boxes[..., None, IMAGE_BOX], h, w)
    wider = functional.max_pool2d(rearrange(cells, "b t n h w -> (b t n) 1 h w").float(), 3, stride=1, padding=1)
    return rearrange(wider > 0, "(b t n) 1 h w -> b t n h w", b=b, t=t)


def _randint(upper: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Uniform integers in [0, upper), one for each element."""
    uniform = torch.rand(upper.shape, generator=generator, device=upper.device)
    return (uniform * upper).long().clamp(max=upper - 1)
