from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.losses.adversarial import AdversarialLoss


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 100.0), weight=st.floats(0.01, 10.0))
def test_is_the_cross_entropy_of_the_right_answer(seed: int, scale: float, weight: float) -> None:
    real, decoded = scale * np.random.default_rng(seed).normal(size=(2, 2, 1, 2, 3, 4))
    loss = AdversarialLoss(weight=weight)
    terms = loss(torch.tensor(decoded)) | loss.discriminator(torch.tensor(real), torch.tensor(decoded))
    expected = {
        "adversarial": weight * np.logaddexp(0, -decoded).mean(),  # -log sigmoid(D(decoded))
        "discriminator_real": np.logaddexp(0, -real).mean(),  # -log sigmoid(D(real))
        "discriminator_decoded": np.logaddexp(0, decoded).mean(),  # -log(1 - sigmoid(D(decoded)))
    }
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_default_weight_is_the_papers() -> None:
    assert float(AdversarialLoss()(torch.zeros(1))["adversarial"]) == pytest.approx(0.1 * np.log(2))


def test_does_not_saturate_where_the_discriminator_is_sure() -> None:
    logits = torch.tensor([-1e4], requires_grad=True)
    AdversarialLoss(weight=1.0)(logits)["adversarial"].backward()
    assert logits.grad.item() == pytest.approx(-1)


def test_half_precision_is_averaged_in_float32() -> None:
    loss = AdversarialLoss()
    logits = torch.full((1000,), 2.5, dtype=torch.bfloat16)
    terms = loss(logits) | loss.discriminator(logits, logits)
    assert {term.dtype for term in terms.values()} == {torch.float32}
    assert float(terms["discriminator_decoded"]) == pytest.approx(np.logaddexp(0, 2.5), rel=1e-5)
