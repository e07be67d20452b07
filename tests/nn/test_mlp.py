from __future__ import annotations

import numpy as np
import torch

from gaia2.nn.mlp import MLP


def test_is_linear_gelu_linear() -> None:
    torch.manual_seed(0)
    mlp = MLP(dim=4, ratio=3.0).double()
    x = torch.randn(2, 5, 4).double()
    w = {name: p.detach().numpy() for name, p in mlp.named_parameters()}
    hidden = x.numpy() @ w["up.weight"].T + w["up.bias"]
    assert hidden.shape[-1] == 12
    hidden = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    np.testing.assert_allclose(mlp(x).detach(), hidden @ w["down.weight"].T + w["down.bias"], atol=1e-12)


def test_the_weights_are_those_of_the_papers_count() -> None:
    assert sum(p.numel() for p in MLP(dim=16).parameters() if p.dim() == 2) == 8 * 16**2
