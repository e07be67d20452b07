from __future__ import annotations

import pytest
import torch

from gaia2.nn.shapes import check_axes, check_channels, check_floats, unexpanded


def test_fitting_axes_pass() -> None:
    check_axes("x", torch.zeros(2, 3, 4), "b t c")
    check_axes("x", torch.zeros(2, 3, 4), "b t c", b=2, c=4)
    check_axes("x", torch.zeros(()), "")
    check_axes("x", torch.zeros(0, 4, device="meta"), "b c", b=0)


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((2, 3), r"^latents: expected \(b, t, c=4\), got \(2, 3\)$"),
        ((2, 3, 5), r"^latents: expected \(b, t, c=4\), got \(2, 3, 5\)$"),
        ((4, 3, 2), r"^latents: expected \(b, t, c=4\), got \(4, 3, 2\)$"),
        ((2, 3, 4, 4), r"got \(2, 3, 4, 4\)$"),
    ],
)
def test_others_do_not(shape: tuple[int, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_axes("latents", torch.zeros(shape), "b t c", c=4)


def test_the_hint_comes_last() -> None:
    with pytest.raises(ValueError, match=r"got \(1,\); encode the frames first$"):
        check_axes("latents", torch.zeros(1), "b t c", hint="encode the frames first")


def test_compiles() -> None:
    def checked(x: torch.Tensor) -> torch.Tensor:
        check_axes("x", x, "b c", c=4)
        return 2 * x

    x = torch.randn(2, 4)
    torch.testing.assert_close(torch.compile(checked, fullgraph=True, backend="eager")(x), 2 * x)


def test_floats_are_asked_for_their_axes_first() -> None:
    check_floats("x", torch.zeros(2, 3), "b c", c=3)
    with pytest.raises(ValueError, match=r"^x: expected \(b, c=4\), got \(2, 3\); pad it$"):
        check_floats("x", torch.zeros(2, 3, dtype=torch.uint8), "b c", hint="pad it", c=4)
    with pytest.raises(ValueError, match=r"^x: expected floating-point numbers, got torch\.int64; convert the tensor$"):
        check_floats("x", torch.zeros(2, dtype=torch.int64), "b")


def test_a_single_channel_is_enough_and_none_is_not() -> None:
    check_channels(dim=1, context_dim=1)
    for wrong in (0, -3):
        with pytest.raises(ValueError, match="context_dim: expected a whole number from 1"):
            check_channels(dim=1, context_dim=wrong)


def test_expanded_axes_shrink_and_others_stay() -> None:
    whole = torch.rand(2, 1, 3)
    assert unexpanded(whole) is whole
    small = unexpanded(whole.expand(4, 2, 5, 3))
    assert small.shape == (1, 2, 1, 3)
    assert torch.equal(small.expand(4, 2, 5, 3), whole.expand(4, 2, 5, 3))
