from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gaia2.conditioning.dropout import drop_all
from gaia2.losses.flow_matching import flow_matching_loss
from gaia2.models.world_model import WorldModel
from gaia2.scene import METADATA
from tests.tiny import BY_CAMERA, BY_TIME_AND_CAMERA, WORLD_MODEL, conditioning, world_model

B, T, N, H, W, C = 2, 3, 3, 2, 4, 4
NAN = float("nan")


@pytest.fixture(scope="module")
def model() -> WorldModel:
    return world_model().double()


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(shape or (B, T, N, H, W, C)), generator=generator, dtype=torch.float64)


def tau(b: int = B) -> torch.Tensor:
    return torch.linspace(0.1, 0.6, b, dtype=torch.float64)


def random_mask(seed: int = 0) -> torch.Tensor:
    return torch.rand(B, T, N, H, W, generator=torch.Generator().manual_seed(seed)) < 0.5


@torch.no_grad()
def run(model: WorldModel, *args: object, **kwargs: object) -> torch.Tensor:
    return model(*args, **kwargs).sample


def test_starts_near_zero_velocity_but_not_at_it() -> None:
    torch.manual_seed(0)
    fresh = WorldModel(**WORLD_MODEL).double()
    start = run(fresh, tokens(), tau(), conditioning(B, T, N))
    assert 1e-3 < start.square().mean().sqrt() < 0.2


def test_permuting_cameras_permutes_the_output(model: WorldModel) -> None:
    given, order = conditioning(B, T, N), [2, 0, 1]
    turned = given | {key: given[key][:, order] for key in BY_CAMERA}
    turned |= {key: given[key][:, :, order] for key in BY_TIME_AND_CAMERA}
    known = random_mask()
    before = run(model, tokens(), tau(), given, known_mask=known)
    after = run(model, tokens()[:, :, order], tau(), turned, known_mask=known[:, :, order])
    torch.testing.assert_close(after, before[:, :, order], atol=1e-5, rtol=0)
    assert (after - before).abs().max() > 1e-2


def test_a_masked_camera_influences_nothing(model: WorldModel) -> None:
    mask = torch.tensor([[True, False, True], [True, True, True]])
    given = conditioning(B, T, N)
    before = run(model, tokens(), tau(), given, camera_mask=mask)
    other_tokens, other = tokens(), {key: value.clone() for key, value in given.items()}
    replacement = conditioning(B, T, N, seed=1)
    other_tokens[:, :, 1] = tokens(seed=1)[:, :, 1]
    for key in BY_CAMERA:
        other[key][:, 1] = replacement[key][:, 1]
    for key in BY_TIME_AND_CAMERA:
        other[key][:, :, 1] = replacement[key][:, :, 1]
    after = run(model, other_tokens, tau(), other, camera_mask=mask)
    torch.testing.assert_close(after[0, :, [0, 2]], before[0, :, [0, 2]], atol=1e-12, rtol=0)
    assert (after[1, :, [0, 2]] - before[1, :, [0, 2]]).abs().amax(dim=-1).min() > 1e-5
    # and is the same as not being there
    without = {key: value[:1, [0, 2]] if key in BY_CAMERA else value[:1] for key, value in given.items()}
    without |= {key: without[key][:, :, [0, 2]] for key in BY_TIME_AND_CAMERA}
    torch.testing.assert_close(run(model, tokens()[:1, :, [0, 2]], tau()[:1], without), before[:1, :, [0, 2]])


@pytest.mark.parametrize("garbage", [NAN, float("inf"), -1e30])
def test_nothing_in_a_masked_camera_is_looked_at(model: WorldModel, garbage: float) -> None:
    mask = torch.tensor([[True, False, True], [True, False, True]])
    given = conditioning(B, T, N)
    broken_tokens, broken = tokens(), {key: value.clone() for key, value in given.items()}
    broken_tokens[:, :, 1] = garbage
    for key in BY_CAMERA:
        broken[key][:, 1] = -9 if key == "distortion_model" else garbage
    for key in BY_TIME_AND_CAMERA:
        broken[key][:, :, 1] = garbage
    before = run(model, tokens(), tau(), given, camera_mask=mask)
    after = run(model, broken_tokens, tau(), broken, camera_mask=mask)
    assert torch.equal(after, before)
    model.zero_grad()
    known, target = random_mask(), tokens(seed=1)
    target[:, :, 1] = garbage
    predicted = model(broken_tokens, tau(), broken, known_mask=known, camera_mask=mask).sample
    flow_matching_loss(predicted, target, known, mask).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_padding_of_the_boxes_changes_nothing(model: WorldModel) -> None:
    given = conditioning(B, T, N)
    given["agents"][0, :, 1, 1] = drop_all(given)["agents"][0, :, 1, 1]
    before = run(model, tokens(), tau(), given)
    absent = drop_all(given)["agents"]
    absent[..., :12] = 1e6  # category -1 rules
    padded = given | {"agents": torch.cat([absent, given["agents"], absent], dim=3)}
    torch.testing.assert_close(run(model, tokens(), tau(), padded), before, atol=1e-12, rtol=0)
    garbage = given["agents"].clone()
    garbage[0, :, 1, 1, :12] = 7.0
    torch.testing.assert_close(run(model, tokens(), tau(), given | {"agents": garbage}), before, atol=0, rtol=0)


def test_the_order_of_the_boxes_changes_nothing(model: WorldModel) -> None:
    given = conditioning(B, T, N, m=3)
    turned = given | {"agents": given["agents"][:, :, :, [2, 0, 1]]}
    before, after = run(model, tokens(), tau(), given), run(model, tokens(), tau(), turned)
    torch.testing.assert_close(after, before, atol=1e-12, rtol=0)


@pytest.mark.parametrize("masked", [False, True])
def test_conditions_can_be_encoded_beforehand(model: WorldModel, masked: bool) -> None:
    given, mask = conditioning(B, T, N), torch.tensor([[True, False, True], [True, True, True]]) if masked else None
    with torch.no_grad():
        encoded = model.encode_conditioning(given, camera_mask=mask)
    for moment in (tau(), tau() + 0.2):
        expected = run(model, tokens(), moment, given, known_mask=random_mask(), camera_mask=mask)
        got = run(model, tokens(), moment, encoded, known_mask=random_mask(), camera_mask=mask)
        assert torch.equal(got, expected)


@pytest.mark.parametrize("grid", [None, (3, 4)])
@pytest.mark.parametrize("agents", ["some", "none", "all"])
def test_what_stays_from_step_to_step_can_be_computed_beforehand(
    model: WorldModel, agents: str, grid: tuple[int, int] | None
) -> None:
    given, mask = conditioning(B, T, N), torch.tensor([[True, False, True], [True, True, True]])
    latents = torch.randn(B, T, N, 3, 4, model.config.latent_channels).double()
    if agents != "some":
        given = given | {"agents": torch.full_like(given["agents"], torch.nan if agents == "none" else 1.0)}
    with torch.no_grad():
        encoded = model.encode_conditioning(given, camera_mask=mask, grid=(3, 4))
        prepared = model.prepare(encoded, grid)
        expected = run(model, latents, tau(), encoded, camera_mask=mask)
        got = run(model, latents, tau(), prepared, camera_mask=mask)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)
    assert prepared.ready is not None
    assert prepared.ready.tokens[0].key.shape[1] == encoded.mask.flatten(0, 2).any(dim=0).sum()


def test_keys_and_values_are_not_computed_again(model: WorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        prepared = model.prepare(model.encode_conditioning(conditioning(B, T, N)))
        for block in model.transformer_blocks:
            for layer in (block.cross_attention.to_k, block.cross_attention.to_v):
                monkeypatch.setattr(layer, "forward", None)
        run(model, tokens(), tau(), prepared)


def inside(model: WorldModel, *args: object, **kwargs: object) -> torch.Tensor:
    """Tokens behind the blocks, before the last norm."""
    seen: list[torch.Tensor] = []
    handle = model.transformer_blocks[-1].register_forward_hook(lambda _, __, out: seen.append(out))
    run(model, *args, **kwargs)
    handle.remove()
    return seen[0]


def test_known_tokens_are_modulated_as_clean(model: WorldModel) -> None:
    given = conditioning(B, T, N)
    everything, nothing = torch.ones(B, T, N, H, W).bool(), torch.zeros(B, T, N, H, W).bool()
    noisy, clean = inside(model, tokens(), tau(), given), inside(model, tokens(), torch.ones_like(tau()), given)
    torch.testing.assert_close(inside(model, tokens(), tau(), given, known_mask=everything), clean)
    torch.testing.assert_close(inside(model, tokens(), tau(), given, known_mask=nothing), noisy)
    assert (noisy - clean).abs().amax(dim=-1).min() > 1e-3


def test_the_velocity_of_unknown_tokens_is_read_at_their_own_flow_time(model: WorldModel) -> None:
    given = conditioning(B, T, N)
    nothing = torch.zeros(B, T, N, H, W).bool()
    assert torch.equal(run(model, tokens(), tau(), given, known_mask=nothing), run(model, tokens(), tau(), given))
    mixed = run(model, tokens(), tau(), given, known_mask=random_mask())
    assert (mixed - run(model, tokens(), tau(), given))[~random_mask()].abs().amax(dim=-1).min() > 1e-6


def test_the_known_mask_is_per_token(model: WorldModel) -> None:
    one_block = world_model(num_blocks=1).double()
    given, mask = conditioning(B, T, N), random_mask()
    noisy, clean = inside(one_block, tokens(), tau(), given), inside(one_block, tokens(), tau() * 0 + 1, given)
    mixed = inside(one_block, tokens(), tau(), given, known_mask=mask)
    torch.testing.assert_close(mixed, torch.where(mask[..., None], clean, noisy))


def test_flow_time_matters_sample_by_sample(model: WorldModel) -> None:
    given = conditioning(B, T, N)
    later = tau() + torch.tensor([0.0, 0.3])
    before, after = run(model, tokens(), tau(), given), run(model, tokens(), later, given)
    assert torch.equal(before[0], after[0])
    assert (before[1] - after[1]).abs().amax(dim=-1).min() > 1e-4


@pytest.mark.parametrize("key", sorted(conditioning(1, 1, 1)))
def test_each_condition_changes_the_output(model: WorldModel, key: str) -> None:
    given = conditioning(B, T, N)
    if key == "distortion_model":
        other = 1 - given[key]
    elif key == "metadata":
        other = (given[key] + 1) % 2
    else:
        other = conditioning(B, T, N, seed=1)[key]
    before, after = run(model, tokens(), tau(), given), run(model, tokens(), tau(), given | {key: other})
    assert (before - after).abs().amax(dim=(1, 2, 3, 4, 5)).min() > 1e-5


@pytest.mark.parametrize("feature", range(13))
def test_each_feature_of_a_box_changes_the_output_and_its_absence_is_not_zero(model: WorldModel, feature: int) -> None:
    given, outputs = conditioning(B, T, N), []
    for value in (0.0, 1.0, NAN):
        agents = given["agents"].clone()
        agents[..., feature] = value
        outputs.append(run(model, tokens(), tau(), given | {"agents": agents}))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (outputs[one] - outputs[other]).abs().max() > 1e-6


@pytest.mark.parametrize("name", list(METADATA))
def test_each_metadata_name_changes_the_output_and_its_absence_is_not_zero(model: WorldModel, name: str) -> None:
    given, outputs = conditioning(B, T, N), []
    for value in (0, 1, -1):
        metadata = given["metadata"].clone()
        metadata[:, list(METADATA).index(name)] = value
        outputs.append(run(model, tokens(), tau(), given | {"metadata": metadata}))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (outputs[one] - outputs[other]).abs().amax(dim=(1, 2, 3, 4, 5)).min() > 1e-5


@pytest.mark.parametrize(
    ("key", "absent", "zero"),
    [
        ("speed", NAN, 0.0),
        ("curvature", NAN, 0.0),
        ("clip_embedding", NAN, 0.0),
        ("scenario_embedding", NAN, 0.0),
        ("metadata", -1, 0),
    ],
)
def test_absent_is_not_zero(model: WorldModel, key: str, absent: float, zero: float) -> None:
    given = conditioning(B, T, N)
    missing = run(model, tokens(), tau(), given | {key: torch.full_like(given[key], absent)})
    nothing = run(model, tokens(), tau(), given | {key: torch.full_like(given[key], zero)})
    assert missing.isfinite().all()
    assert (missing - nothing).abs().max() > 1e-5
    left_out = run(model, tokens(), tau(), {k: v for k, v in given.items() if k != key})
    torch.testing.assert_close(left_out, missing)


def test_absent_agents_are_not_agents_at_the_origin(model: WorldModel) -> None:
    given = conditioning(B, T, N)
    absent = drop_all(given)["agents"]
    missing = run(model, tokens(), tau(), given | {"agents": absent})
    at_origin = run(model, tokens(), tau(), given | {"agents": torch.zeros_like(absent)})
    assert (missing - at_origin).abs().max() > 1e-5
    torch.testing.assert_close(run(model, tokens(), tau(), {k: v for k, v in given.items() if k != "agents"}), missing)


def test_a_batch_of_two_is_two_of_one(model: WorldModel) -> None:
    given, mask = conditioning(B, T, N), random_mask()
    given["speed"][0] = NAN
    given["agents"][1, :, :, 1] = drop_all(given)["agents"][1, :, :, 1]
    both = run(model, tokens(), tau(), given, known_mask=mask)
    for i in range(B):
        part = slice(i, i + 1)
        single = {key: value[part] for key, value in given.items()}
        alone = run(model, tokens()[part], tau()[part], single, known_mask=mask[part])
        torch.testing.assert_close(both[part], alone)


@pytest.mark.parametrize(("t", "n", "h", "w"), [(1, 1, 1, 1), (5, 2, 3, 7), (2, 4, 4, 2)])
def test_any_grid_and_any_number_of_cameras(model: WorldModel, t: int, n: int, h: int, w: int) -> None:
    out = run(model, tokens(1, t, n, h, w, C), tau(1), conditioning(1, t, n))
    assert out.shape == (1, t, n, h, w, C)
    assert out.isfinite().all()


def test_gradient_checkpointing_changes_nothing() -> None:
    results = []
    for enabled in (False, True):
        model = world_model().double()
        if enabled:
            model.enable_gradient_checkpointing()
            assert model.gradient_checkpointing
        mask = torch.tensor([[True, True, False]] * B)
        out = model(tokens(), tau(), conditioning(B, T, N), known_mask=random_mask(), camera_mask=mask).sample
        out.square().mean().backward()
        results.append((out.detach(), {name: p.grad for name, p in model.named_parameters()}))
    torch.testing.assert_close(results[0], results[1], atol=1e-12, rtol=0)
    without = [name for name, grad in results[0][1].items() if grad is None]
    assert without == []


def test_goes_to_disk_and_back(tmp_path: Path) -> None:
    model = world_model(metadata={"weather": ["dry", "wet"]})
    model.save_pretrained(tmp_path)
    loaded = WorldModel.from_pretrained(tmp_path)
    assert {k: v for k, v in loaded.config.items() if k[0] != "_"} == {
        k: v for k, v in model.config.items() if k[0] != "_"
    }
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    given = {key: value.float() if value.is_floating_point() else value for key, value in conditioning(B, T, N).items()}
    given["metadata"] = torch.tensor([[0], [1]])
    before, after = (run(m, tokens().float(), tau().float(), given) for m in (model, loaded))
    assert torch.equal(before, after)


def test_output_as_a_tuple(model: WorldModel) -> None:
    given = conditioning(B, T, N)
    (velocity,) = model(tokens(), tau(), given, return_dict=False)
    torch.testing.assert_close(velocity, model(tokens(), tau(), given).sample)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda kw: kw | {"hidden_states": tokens(B, T, N, H, W, 5)},
            r"hidden_states: expected \(b, t, n, h, w, c=4\), got \(2, 3, 3, 2, 4, 5\); encode the frames with",
        ),
        (lambda kw: kw | {"hidden_states": tokens(B, T, N, H, C)}, r"hidden_states: expected .*got \(2, 3, 3, 2, 4\)"),
        (lambda kw: kw | {"timestep": tau(3)}, r"timestep: expected \(b=2\), got \(3,\); give one flow time a sample"),
        (lambda kw: kw | {"timestep": torch.tensor(0.5)}, r"timestep: expected \(b=2\), got \(\)"),
        (
            lambda kw: kw | {"known_mask": torch.ones(B, T, 1, 1, 1).bool()},
            r"known_mask: expected \(b=2, t=3, n=3, h=2, w=4\), got \(2, 3, 1, 1, 1\)",
        ),
        (
            lambda kw: kw | {"camera_mask": torch.ones(B, 2).bool()},
            r"camera_mask: expected \(b=2, n=3\), got \(2, 2\)",
        ),
        (lambda kw: kw | {"conditioning": {}}, "conditioning: expected the key 'timestamps', got none"),
        (
            lambda kw: kw | {"conditioning": conditioning(B, 2, N)},
            r"timestamps: expected \(b=2, t=3, n=3\), got \(2, 2, 3\); make the conditions of these latents",
        ),
        (
            lambda kw: kw | {"conditioning": conditioning(1, T, N)},
            r"timestamps: expected \(b=2, t=3, n=3\), got \(1, 3, 3\)",
        ),
    ],
)
def test_bad_input(model: WorldModel, change: Callable[[dict], dict], match: str) -> None:
    given = dict(hidden_states=tokens(), timestep=tau(), conditioning=conditioning(B, T, N))
    with pytest.raises(ValueError, match=match):
        model(**change(given))
