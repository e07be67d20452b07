"""From 2D boxes to the cells of an even grid over the image.

Axes: m boxes; `...` leading axes, such as b, t and n. Coordinates are fractions of the image.
"""

from __future__ import annotations

import torch


def spans(start: torch.Tensor, stop: torch.Tensor, cells: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The part of intervals in each of `cells` equal cells of [0, 1], where it begins and ends.

    Args:
        start: `(...)`; NaN is in no cell.
        stop: `(...)`.
        cells: How many.

    Returns:
        Low and high ends `(..., cells)`; low >= high where nothing of the interval is in the cell.
    """
    edges = torch.arange(cells + 1, device=start.device, dtype=start.dtype) / cells
    return torch.maximum(start[..., None], edges[:-1]), torch.minimum(stop[..., None], edges[1:])


def shares(start: torch.Tensor, stop: torch.Tensor, cells: int) -> torch.Tensor:
    """How much of each of `cells` equal cells of [0, 1] intervals take up.

    Args:
        start: `(...)`.
        stop: `(...)`.
        cells: How many.

    Returns:
        `(..., cells)`, from 0 to 1.

    Example:
        >>> shares(torch.tensor(0.125), torch.tensor(0.75), 4)
        tensor([0.5000, 1.0000, 1.0000, 0.0000])
    """
    low, high = spans(start, stop, cells)
    return (high - low).clamp(min=0.0) * cells


def covered(boxes: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The cells that any of the boxes overlaps.

    Args:
        boxes: `(..., m, 4)` x1 y1 x2 y2; NaN covers nothing.
        rows: Cells of the grid from top to bottom.
        columns: Cells from left to right.

    Returns:
        Boolean `(..., rows, columns)`.

    Example:
        >>> covered(torch.tensor([[0.0, 0.0, 0.5, 0.4]]), 2, 4).int()
        tensor([[1, 1, 0, 0],
                [0, 0, 0, 0]], dtype=torch.int32)
    """
    x1, y1, x2, y2 = boxes.unbind(dim=-1)
    across, down = spans(x1, x2, columns), spans(y1, y2, rows)
    in_column, in_row = across[0] < across[1], down[0] < down[1]
    return torch.einsum("...mh,...mw->...hw", in_row.float(), in_column.float()) > 0
