from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.conditioning.action import ActionEncoder, ScalarLinear, inverse_symlog, symlog

NAN = float("nan")
KINDS = {"speed": (3.6, 75.0), "curvature": (1000.0, 0.1)}


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), share=st.floats(-3, 3))
def test_symlog_is_the_papers_formula_and_its_inverse_undoes_it(kind: str, share: float) -> None:
    s, y_max = KINDS[kind]
    y = share * y_max
    got = symlog(torch.tensor(y, dtype=torch.float64), s, y_max)
    expected = math.copysign(math.log(1 + s * abs(y)) / math.log(1 + s * y_max), y)
    assert got.item() == pytest.approx(expected, abs=1e-12)
    assert inverse_symlog(got, s, y_max).item() == pytest.approx(y, rel=1e-12, abs=1e-15)


def test_symlog_reaches_one_at_the_maximum_and_is_not_clamped() -> None:
    assert symlog(torch.tensor([75.0, 100.0]), 3.6, 75.0).tolist() == [1.0, pytest.approx(1.0512, abs=1e-3)]


def test_encoder_sums_two_mlps_of_the_compressed_values() -> None:
    encoder = ActionEncoder(dim=6).double()
    speed = torch.tensor([[0.0, 13.0]], dtype=torch.float64)
    curvature = torch.tensor([[-0.02, 0.0]], dtype=torch.float64)
    expected = encoder.speed(symlog(speed, 3.6, 75.0)[..., None])
    expected = expected + encoder.curvature(symlog(curvature, 1000.0, 0.1)[..., None])
    torch.testing.assert_close(encoder(speed, curvature), expected)


def test_each_absent_value_has_its_own_null() -> None:
    encoder = ActionEncoder(dim=6)
    absent, zero = torch.full((1, 1), NAN), torch.zeros(1, 1)
    torch.testing.assert_close(encoder(absent, absent)[0, 0], encoder.speed_null + encoder.curvature_null)
    outputs = [encoder(s, c)[0, 0] for s in (absent, zero) for c in (absent, zero)]
    for i, one in enumerate(outputs):
        for other in outputs[i + 1 :]:
            assert (one - other).abs().max() > 1e-3


def test_absent_values_leave_gradients_finite() -> None:
    encoder = ActionEncoder(dim=6)
    speed = torch.tensor([[NAN, 5.0]], requires_grad=True)
    out = encoder(speed, torch.tensor([[0.01, NAN]]))
    out.square().sum().backward()
    assert out.isfinite().all()
    assert speed.grad is not None
    assert speed.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_half_precision_weights_take_float32_values() -> None:
    assert ActionEncoder(dim=6).bfloat16()(torch.ones(1, 2), torch.ones(1, 2)).dtype == torch.bfloat16


def test_bad_input() -> None:
    encoder = ActionEncoder(dim=6)
    with pytest.raises(ValueError, match=r"speed: expected \(b, t\), got \(3,\)"):
        encoder(torch.zeros(3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"curvature: expected \(b=1, t=3\), got \(1, 2\)"):
        encoder(torch.zeros(1, 3), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="scale: expected a positive number above 0, got 0"):
        symlog(torch.zeros(1), 0, 75.0)
    with pytest.raises(ValueError, match="max_value: expected a positive number above 0, got -1"):
        inverse_symlog(torch.zeros(1), 3.6, -1)


def test_a_linear_layer_of_a_number_is_torchs_but_for_its_type() -> None:
    torch.manual_seed(0)
    ours = ScalarLinear(8)
    torch.manual_seed(0)
    theirs = torch.nn.Linear(1, 8)
    assert not isinstance(ours, torch.nn.Linear)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 1)
    assert torch.equal(ours(x), theirs(x))
