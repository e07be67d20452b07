from __future__ import annotations

import math

import pytest
import torch

from gaia2.conditioning.agents import AgentEncoder

NAN = float("nan")


def features(b: int = 1, t: int = 2, n: int = 2, m: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    result = torch.rand(b, t, n, m, 13, generator=generator, dtype=torch.float64)
    result[..., 4:7] = 40 * (result[..., 4:7] - 0.3)
    result[..., 7:10] *= 5
    result[..., 10:12] = 2 * result[..., 10:12] - 1
    result[..., 12] = torch.randint(0, 7, (b, t, n, m), generator=generator)
    return result


def absent(*shape: int) -> torch.Tensor:
    rows = torch.full((*shape, 13), NAN, dtype=torch.float64)
    rows[..., 12] = -1
    return rows


@pytest.fixture
def encoder() -> AgentEncoder:
    torch.manual_seed(0)
    return AgentEncoder(dim=4).double()


def test_each_feature_alone_then_one_linear_layer(encoder: AgentEncoder) -> None:
    agents = features(t=1, n=1, m=2)
    agents[0, 0, 0, 1, 5] = NAN
    agents[0, 0, 0, 1, 12] = NAN
    tokens, mask = encoder(agents)
    assert mask.all()
    for row in range(2):
        f = agents[0, 0, 0, row].tolist()
        centre = [math.copysign(math.log1p(0.1 * abs(v)) / math.log1p(10), v) for v in f[4:7]]
        values = [2 * v - 1 for v in f[:4]] + centre + [v / 5 for v in f[7:10]] + f[10:12]
        parts = []
        for i, value in enumerate(values):
            line = value * encoder.weight[i] + encoder.bias[i]
            parts.append(encoder.null[i] if math.isnan(value) else line * torch.sigmoid(line))
        parts.append(encoder.null[12] if math.isnan(f[12]) else encoder.category.weight[int(f[12])])
        expected = encoder.out.weight @ torch.cat(parts) + encoder.out.bias
        torch.testing.assert_close(tokens[0, 0, 0, row], expected)


def test_absent_rows_are_masked_zero_and_change_nothing(encoder: AgentEncoder) -> None:
    agents = features()
    tokens, mask = encoder(agents)
    padded, padded_mask = encoder(torch.cat([agents, absent(1, 2, 2, 2)], dim=3))
    torch.testing.assert_close(padded[:, :, :, :3], tokens)
    assert torch.equal(padded_mask[:, :, :, :3], mask)
    assert not padded_mask[:, :, :, 3:].any()
    assert padded[:, :, :, 3:].abs().max() == 0


def test_category_minus_one_rules_whatever_else_stands_there(encoder: AgentEncoder) -> None:
    agents = features()
    agents[:, :, :, 1, 12] = -1
    tokens, mask = encoder(agents)
    assert mask[0, 0, 0].tolist() == [True, False, True]
    assert tokens[:, :, :, 1].abs().max() == 0


def test_a_row_with_no_feature_left_is_absent_but_one_feature_is_enough(encoder: AgentEncoder) -> None:
    agents = torch.full((1, 1, 1, 14, 13), NAN, dtype=torch.float64)
    for i in range(13):
        agents[0, 0, 0, i, i] = 0.0
    tokens, mask = encoder(agents)
    assert mask[0, 0, 0].tolist() == [True] * 13 + [False]
    assert tokens[0, 0, 0, :13].abs().amax(dim=-1).min() > 0


@pytest.mark.parametrize("feature", range(13))
def test_each_feature_counts_and_its_absence_is_not_zero(encoder: AgentEncoder, feature: int) -> None:
    agents = features(t=1, n=1, m=1)
    variants = []
    for value in (0.0, 1.0, NAN):
        changed = agents.clone()
        changed[..., feature] = value
        variants.append(encoder(changed)[0])
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (variants[i] - variants[j]).abs().max() > 1e-3


def test_nan_never_leaks(encoder: AgentEncoder) -> None:
    agents = features()
    agents[torch.rand(agents.shape, generator=torch.Generator().manual_seed(1)) < 0.4] = NAN
    agents[0, 0, 0, 0] = absent()
    agents.requires_grad_()
    tokens, _ = encoder(agents)
    tokens.square().sum().backward()
    assert tokens.isfinite().all()
    assert agents.grad is not None
    assert agents.grad.isfinite().all()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_permuting_cameras_and_boxes_permutes_the_tokens(encoder: AgentEncoder) -> None:
    agents = features(n=3)
    tokens, _ = encoder(agents)
    torch.testing.assert_close(encoder(agents[:, :, [2, 0, 1]])[0], tokens[:, :, [2, 0, 1]])
    torch.testing.assert_close(encoder(agents[:, :, :, [1, 2, 0]])[0], tokens[:, :, :, [1, 2, 0]])


def test_no_rows(encoder: AgentEncoder) -> None:
    tokens, mask = encoder(features(m=0))
    assert tokens.shape == (1, 2, 2, 0, 4)
    assert mask.shape == (1, 2, 2, 0)


def test_paper_size() -> None:
    dim = 4096
    with torch.device("meta"):
        encoder = AgentEncoder(dim=dim)
    count = sum(p.numel() for p in encoder.parameters())
    assert count == 13 * dim**2 + dim + 2 * 12 * dim + 7 * dim + 13 * dim
    assert 218e6 < count < 219e6


def test_bad_shape(encoder: AgentEncoder) -> None:
    with pytest.raises(ValueError, match=r"agents: expected \(b, t, n, m, k=13\), got \(1, 2, 3, 7\); project_boxes"):
        encoder(torch.zeros(1, 2, 3, 7))
