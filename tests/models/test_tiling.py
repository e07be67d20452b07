from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.models.tiling import Tiles


@settings(max_examples=60, deadline=None)
@given(
    cells=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    data=st.data(),
    units=st.sampled_from([(1, 1), (1, 3), (2, 1)]),
)
def test_a_function_of_each_cell_alone_is_not_changed(
    cells: tuple[int, int], size: tuple[int, int], data: st.DataObject, units: tuple[int, int]
) -> None:
    stride = (data.draw(st.integers(1, size[0])), data.draw(st.integers(1, size[1])))
    unit_in, unit_out = units

    def function(x: torch.Tensor) -> torch.Tensor:
        assert x.shape[-2] <= size[0] * unit_in
        assert x.shape[-1] <= size[1] * unit_in
        x = x[..., ::unit_in, ::unit_in]
        return x.repeat_interleave(unit_out, -2).repeat_interleave(unit_out, -1).square()

    x = torch.randn(2, 3, 2, cells[0] * unit_in, cells[1] * unit_in, generator=torch.Generator().manual_seed(0))
    tiled = Tiles(size=size, stride=stride).run(function, x, unit_in=unit_in, unit_out=unit_out)
    x = x[..., ::unit_in, ::unit_in]
    expected = x.repeat_interleave(unit_out, -2).repeat_interleave(unit_out, -1).square()
    torch.testing.assert_close(tiled, expected)


def test_two_tiles_fade_into_one_another() -> None:
    values = iter([0.0, 1.0])
    tiles = Tiles(size=(1, 6), stride=(1, 4))
    x = torch.zeros(1, 1, 1, 1, 10)
    blended = tiles.run(lambda x: torch.full_like(x, next(values)), x, unit_in=1, unit_out=1)
    torch.testing.assert_close(blended.flatten(), torch.tensor([0, 0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1, 1]))


def test_gradients_reach_every_tile() -> None:
    x = torch.ones(1, 1, 1, 3, 7, requires_grad=True)
    Tiles(size=(2, 3), stride=(1, 2)).run(lambda x: 2 * x, x, unit_in=1, unit_out=1).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 2.0))
