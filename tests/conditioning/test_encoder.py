from __future__ import annotations

import pytest
import torch

from gaia2.conditioning.encoder import ConditioningEncoder

NAN = float("nan")
VOCABULARY = {"country": ("uk", "us"), "weather": ("clear", "rain", "snow"), "lanes": 4}
B, T, N, M = 2, 3, 4, 2
GLOBAL = 5


def full(b: int = B, seed: int = 0) -> dict[str, torch.Tensor]:
    """Everything given."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def ids(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, high, shape, generator=generator)

    pose = torch.eye(4, dtype=torch.float64).repeat(b, N, 1, 1)
    pose[..., :3, :3] = torch.linalg.qr(rand(b, N, 3, 3)).Q
    pose[..., :3, 3] = rand(b, N, 3)
    agents = rand(b, T, N, M, 13)
    agents[..., 12] = ids(7, b, T, N, M)
    return {
        "timestamps": rand(b, T, N),
        "intrinsics": rand(b, N, 4) + 0.1,
        "extrinsics": pose,
        "distortion": rand(b, N, 8),
        "distortion_model": torch.zeros(b, N, dtype=torch.int64),
        "speed": 20 * rand(b, T),
        "curvature": 0.1 * rand(b, T),
        "agents": agents,
        "metadata": torch.stack([ids(2, b), ids(3, b), ids(4, b)], dim=1),
        "clip_embedding": rand(b, 6),
        "scenario_embedding": rand(b, 5),
    }


def absent(key: str) -> torch.Tensor:
    if key == "metadata":
        return torch.full((B, 3), -1)
    value = torch.full_like(full()[key], NAN)
    if key == "agents":
        value[..., 12] = -1
    return value


@pytest.fixture(scope="module")
def encoder() -> ConditioningEncoder:
    torch.manual_seed(0)
    return ConditioningEncoder(dim=8, vocabulary=VOCABULARY, clip_dim=6, scenario_dim=5).double()


def test_parts_are_those_of_the_single_encoders(encoder: ConditioningEncoder) -> None:
    given = full()
    action, position, tokens, mask = encoder(given)
    torch.testing.assert_close(action, encoder.action(given["speed"], given["curvature"]))
    camera = encoder.camera(*(given[k] for k in ("intrinsics", "extrinsics", "distortion", "distortion_model")))
    expected = camera[:, None] + encoder.timestamp(given["timestamps"])
    torch.testing.assert_close(position, expected[:, :, :, None, None])
    assert tokens.shape == (B, T, N, M + GLOBAL, 8)
    torch.testing.assert_close(tokens[..., :M, :], encoder.agents(given["agents"])[0])
    for time in range(T):
        for camera_index in range(N):
            shared = tokens[:, time, camera_index, M:]
            torch.testing.assert_close(shared[:, :3], encoder.metadata(given["metadata"]))
            torch.testing.assert_close(shared[:, 3:4], encoder.clip(given["clip_embedding"]))
            torch.testing.assert_close(shared[:, 4:], encoder.scenario(given["scenario_embedding"]))
    assert mask.all()


@pytest.mark.parametrize("key", ["speed", "curvature", "metadata", "clip_embedding", "scenario_embedding"])
def test_a_missing_key_is_an_absent_one_and_not_zero(encoder: ConditioningEncoder, key: str) -> None:
    given = full()
    without = encoder({k: v for k, v in given.items() if k != key})
    empty = encoder(given | {key: absent(key)})
    zero = encoder(given | {key: torch.zeros_like(given[key])})
    for one, other in zip(without, empty, strict=True):
        torch.testing.assert_close(one, other)
    assert max((a.double() - b.double()).abs().max().item() for a, b in zip(empty, zero, strict=True)) > 1e-3
    assert empty.mask.all()


def test_missing_agents_leave_the_global_tokens(encoder: ConditioningEncoder) -> None:
    given = full()
    empty = encoder(given | {"agents": absent("agents")})
    without = encoder({k: v for k, v in given.items() if k != "agents"})
    torch.testing.assert_close(without.tokens, empty.tokens[..., M:, :])
    assert without.mask.all()
    assert not empty.mask[..., :M].any()
    assert empty.mask[..., M:].all()


def test_missing_distortion_is_a_pinhole_without_any(encoder: ConditioningEncoder) -> None:
    given = full()
    bare = {k: v for k, v in given.items() if not k.startswith("distortion")}
    plain = given | {"distortion": torch.zeros(B, N, 8, dtype=torch.float64)}
    torch.testing.assert_close(encoder(bare).position, encoder(plain).position)


@pytest.mark.parametrize("key", sorted(full()))
def test_each_condition_changes_its_part_only(encoder: ConditioningEncoder, key: str) -> None:
    given = full()
    if key == "distortion_model":
        other = given | {key: 1 - given[key]}
    elif key == "metadata":
        other = given | {key: (given[key] + 1) % 2}
    else:
        other = given | {key: full(seed=1)[key]}
    part = "action" if key in ("speed", "curvature") else "tokens"
    if key in ("timestamps", "intrinsics", "extrinsics", "distortion", "distortion_model"):
        part = "position"
    before, after = encoder(given), encoder(other)
    for name in ("action", "position", "tokens"):
        change = (getattr(before, name) - getattr(after, name)).abs().max()
        assert change > 1e-3 if name == part else change == 0


def test_permuting_cameras_permutes_the_outputs(encoder: ConditioningEncoder) -> None:
    given, order = full(), [2, 3, 0, 1]
    by_camera = ("intrinsics", "extrinsics", "distortion", "distortion_model")
    turned = given | {k: given[k][:, order] for k in by_camera}
    turned |= {k: given[k][:, :, order] for k in ("timestamps", "agents")}
    before, after = encoder(given), encoder(turned)
    torch.testing.assert_close(after.action, before.action)
    for name in ("position", "tokens", "mask"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name)[:, :, order])


def test_a_batch_of_two_is_two_of_one(encoder: ConditioningEncoder) -> None:
    given = full()
    given["agents"][0, :, :, 1] = absent("agents")[0, :, :, 1]
    given["clip_embedding"][1] = NAN
    both = encoder(given)
    for i in range(B):
        single = encoder({k: v[i : i + 1] for k, v in given.items()})
        for one, two in zip(single, both, strict=True):
            torch.testing.assert_close(one[0], two[i])


def test_nan_never_leaks(encoder: ConditioningEncoder) -> None:
    given = full()
    for key in ("speed", "curvature"):
        given[key][:, ::2] = NAN
    given["agents"][..., 3:9] = NAN
    given["agents"][:, 0] = absent("agents")[:, 0]
    given["metadata"][:, 1] = -1
    given["clip_embedding"][0] = NAN
    given["scenario_embedding"][:] = NAN
    encoder.zero_grad()
    out = encoder(given)
    (out.action.square().sum() + out.position.square().sum() + out.tokens.square().sum()).backward()
    for name in ("action", "position", "tokens"):
        assert getattr(out, name).isfinite().all()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_any_number_of_cameras_and_times(encoder: ConditioningEncoder) -> None:
    given = full()
    less = {k: v for k, v in given.items() if k not in ("speed", "curvature", "agents")}
    less |= {k: less[k][:, :1] for k in ("intrinsics", "extrinsics", "distortion", "distortion_model")}
    assert encoder(less | {"timestamps": given["timestamps"][:, :2, :1]}).tokens.shape == (B, 2, 1, GLOBAL, 8)


def test_compiles_without_a_break(encoder: ConditioningEncoder) -> None:
    given = full()
    compiled = torch.compile(encoder, fullgraph=True, backend="eager")
    for one, other in zip(compiled(given), encoder(given), strict=True):
        torch.testing.assert_close(one, other)


def test_paper_size() -> None:
    with torch.device("meta"):
        encoder = ConditioningEncoder(dim=4096)
    count = sum(p.numel() for p in encoder.parameters())
    # Boxes 13 c^2, speed, curvature and timestamp c^2 each, CLIP and scenario (768 + 512) c: 8.42 to 8.45B with 22
    # blocks of 22 c^2.
    assert count == pytest.approx(16 * 4096**2 + 1280 * 4096, rel=0.003)
    assert 8.40e9 < 22 * 22 * 4096**2 + count + 4096**2 < 8.46e9


def change(key: str, index: object, value: float) -> dict[str, torch.Tensor]:
    given = full()
    given[key][index] = value
    return given


@pytest.mark.parametrize(
    ("conditioning", "match"),
    [
        (
            {k: v for k, v in full().items() if k != "extrinsics"},
            "conditioning: expected the key 'extrinsics', got tim",
        ),
        ({}, "conditioning: expected the key 'timestamps', got none"),
        (full() | {"speeed": torch.zeros(2, 3)}, "conditioning: unknown key 'speeed'; did you mean 'speed'"),
        (full() | {"timestamps": torch.zeros(2, 3)}, r"timestamps: expected \(b, t, n\), got \(2, 3\)"),
        (full() | {"speed": torch.zeros(2, 5)}, r"speed: expected \(b=2, t=3\), got \(2, 5\)"),
        (full() | {"agents": torch.zeros(2, 3, 5, 2, 13)}, r"agents: expected \(b=2, t=3, n=4, m, f=13\)"),
        (full() | {"metadata": torch.zeros(2, 4).long()}, r"metadata: expected \(b=2, k=3\), got \(2, 4\)"),
        (full() | {"metadata": torch.zeros(2, 3)}, "metadata: expected integer ids, got torch.float32"),
        (full() | {"speed": torch.zeros(2, 3).long()}, "speed: expected floating-point numbers, got torch.int64"),
        (full() | {"clip_embedding": torch.zeros(2, 7)}, r"clip_embedding: expected \(b=2, clip=6\), got \(2, 7\)"),
        (change("extrinsics", (0, 1, 2, 3), NAN), "extrinsics: expected finite numbers, got nan"),
        (change("metadata", (1, 1), 3), "metadata: expected ids of weather from 0 to 2, or -1 where absent, got 3"),
        (change("agents", (0, 0, 0, 0, 12), 7), "agents: expected category ids from 0 to 6, or -1 .* got 7"),
    ],
)
def test_bad_input(encoder: ConditioningEncoder, conditioning: dict[str, torch.Tensor], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        encoder(conditioning)


def test_maps_add_what_single_cells_know_to_the_positions() -> None:
    torch.manual_seed(0)
    encoder = ConditioningEncoder(
        dim=8, vocabulary=VOCABULARY, clip_dim=6, scenario_dim=5, ray_map=True, agent_map=True, ground_map=True
    ).double()
    torch.nn.init.normal_(encoder.ground_map.mlp[2].weight)  # it begins with zeros
    given = full()
    encoded = encoder(given, grid=(2, 3))
    plain = encoder.camera(*(given[k] for k in ("intrinsics", "extrinsics", "distortion", "distortion_model")))
    plain = plain[:, None] + encoder.timestamp(given["timestamps"])
    rays = encoder.ray_map(
        *(given[k] for k in ("intrinsics", "extrinsics", "distortion", "distortion_model")), grid=(2, 3)
    )
    agents = encoder.agent_map(given["agents"], grid=(2, 3))
    ground = encoder.ground_map(
        *(given[k] for k in ("speed", "curvature", "timestamps", "intrinsics", "extrinsics")),
        *(given[k] for k in ("distortion", "distortion_model")),
        grid=(2, 3),
    )
    assert ground.abs().amax(dim=(0, 2, 3, 4, 5)).min() > 1e-2
    torch.testing.assert_close(encoded.position, plain[:, :, :, None, None] + rays[:, None] + agents + ground)
    with pytest.raises(ValueError, match="grid: expected rows and columns of the latents"):
        encoder(given)
