"""Running a model on overlapping tiles of a picture too large for it, and blending the results.

Axes: b batch, c channels, t time, h w rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from einops import rearrange


@dataclass(frozen=True)
class Tiles:
    """Where the tiles of a picture lie, in cells that a model's input and output share.

    Tiles are a stride apart; the last one of a row or column ends at the border. Where tiles overlap they are blended
    linearly.

    Args:
        size: Cells `(height, width)` of a tile.
        stride: Cells from one tile to the next, down and across; at most the size.

    Example:
        >>> tiles = Tiles(size=(2, 4), stride=(2, 2))
        >>> tiles.run(lambda x: 10 * x, torch.ones(1, 1, 1, 2, 8), unit_in=1, unit_out=1).flatten()[:8]
        tensor([10., 10., 10., 10., 10., 10., 10., 10.])
    """

    size: tuple[int, int]
    stride: tuple[int, int]

    def run(
        self, function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, *, unit_in: int, unit_out: int
    ) -> torch.Tensor:
        """Apply a function to each tile and blend the results.

        Args:
            function: Maps a tile `(b, c, t, h, w)` to `(b, c', t', h', w')`; cells of `unit_in` rows and columns become
                cells of `unit_out`.
            x: The picture, `(b, c, t, h, w)`.
            unit_in: Rows and columns of a cell of `x`.
            unit_out: Rows and columns of a cell of the result.

        Returns:
            The whole result, `(b, c', t', h', w')`.
        """
        cells = [side // unit_in for side in x.shape[-2:]]
        if cells[0] <= self.size[0] and cells[1] <= self.size[1]:
            return function(x)
        rows, columns = (
            _spans(cells[axis], size=self.size[axis], stride=self.stride[axis], unit=unit_out, device=x.device)
            for axis in (0, 1)
        )
        blended: torch.Tensor | None = None
        for (top, bottom, row_weights), (left, right, column_weights) in product(rows, columns):
            part = function(x[..., top * unit_in : bottom * unit_in, left * unit_in : right * unit_in])
            if blended is None:
                blended = part.new_zeros(*part.shape[:3], cells[0] * unit_out, cells[1] * unit_out)
            weights = (rearrange(row_weights, "h -> h 1") * column_weights).to(part.dtype)
            blended[..., top * unit_out : bottom * unit_out, left * unit_out : right * unit_out] += part * weights
        assert blended is not None
        return blended


def _spans(
    cells: int, *, size: int, stride: int, unit: int, device: torch.device
) -> list[tuple[int, int, torch.Tensor]]:
    """First cell, last cell + 1 and weights `(unit * size,)` of the tiles along one axis; weights sum to 1 everywhere.

    A tile's weight falls linearly towards its ends, over the overlap with the tiles beside it.
    """
    last = max(0, cells - size)
    starts = [*range(0, last, stride), last]
    size = min(size, cells)
    from_start = torch.arange(1, size * unit + 1, device=device, dtype=torch.float32)
    ramp = torch.minimum(from_start, from_start.flip(0)).clamp(max=max(0, size - stride) * unit + 1)
    total = torch.zeros(cells * unit, device=device)
    for start in starts:
        total[start * unit : (start + size) * unit] += ramp
    return [(start, start + size, ramp / total[start * unit : (start + size) * unit]) for start in starts]
