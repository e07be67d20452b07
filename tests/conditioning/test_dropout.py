from __future__ import annotations

import pytest
import torch

from gaia2.conditioning.condition import Condition, Key
from gaia2.conditioning.dropout import (
    ConditioningDropout,
    blank_cameras,
    drop,
    drop_all,
    keep_scenario_alone,
)
from gaia2.conditioning.scenario import IN_SCENARIO
from gaia2.conditioning.table import standard_conditions
from gaia2.scene import METADATA

NAN = float("nan")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditioning(b: int, t: int = 2, n: int = 2, m: int = 4) -> dict[str, torch.Tensor]:
    agents = torch.rand(b, t, n, m, 13, generator=seeded())
    agents[..., 12] = torch.randint(0, 7, (b, t, n, m), generator=seeded())
    return {
        "timestamps": torch.rand(b, t, n),
        "intrinsics": torch.rand(b, n, 4),
        "extrinsics": torch.rand(b, n, 4, 4),
        "speed": torch.zeros(b, t),
        "curvature": torch.zeros(b, t),
        "agents": agents,
        "metadata": torch.zeros(b, 11, dtype=torch.int64),
        "clip_embedding": torch.zeros(b, 3),
        "scenario_embedding": torch.zeros(b, 3),
    }


def kept(conditioning: dict[str, torch.Tensor]) -> torch.Tensor:
    """Which of the 16 variables (b, 16) are there."""
    single = [conditioning[key].isfinite().flatten(1) for key in ("speed", "curvature")]
    single += [conditioning[key].isfinite() for key in ("clip_embedding", "scenario_embedding")]
    single += [conditioning["agents"][..., :12].isfinite().flatten(1)]
    for there in single:
        assert torch.equal(there.any(dim=1), there.all(dim=1))  # a variable goes as a whole
    return torch.cat([torch.stack([there.any(dim=1) for there in single], 1), conditioning["metadata"] >= 0], dim=1)


def test_shares_are_those_of_the_paper() -> None:
    b = 20000
    dropout = ConditioningDropout(agent_feature=0.0, agent_instances=False)
    there = kept(dropout(conditioning(b, t=1, n=1, m=1), seeded()))
    assert there.shape == (b, 16)
    torch.testing.assert_close(there.float().mean(0), torch.full((16,), 0.9 * 0.2), atol=0.012, rtol=0)
    # Apart from the samples that lose everything, the variables are independent.
    nothing = (~there).all(dim=1).float().mean().item()
    assert nothing == pytest.approx(0.1 + 0.9 * 0.8**16, abs=0.01)
    pairs = there.float().T @ there.float() / b
    off = ~torch.eye(16, dtype=torch.bool)
    torch.testing.assert_close(pairs[off], torch.full((240,), 0.9 * 0.2**2), atol=0.008, rtol=0)


def test_all_or_nothing() -> None:
    dropout = ConditioningDropout(individual=0.0, all=0.4, agent_feature=0.0, agent_instances=False)
    there = kept(dropout(conditioning(4000, t=1, n=1, m=1), seeded()))
    assert torch.equal(there.any(dim=1), there[:, 5:].all(dim=1))
    assert there.any(dim=1).float().mean().item() == pytest.approx(0.6, abs=0.03)


def test_seeds_reproduce_and_inputs_stay_as_they_are() -> None:
    given = conditioning(50)
    before = {key: value.clone() for key, value in given.items()}
    dropout = ConditioningDropout()
    one, two, other = dropout(given, seeded(1)), dropout(given, seeded(1)), dropout(given, seeded(2))
    assert list(one) == list(given)
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], equal_nan=True, rtol=0, atol=0)
        torch.testing.assert_close(given[key], before[key], rtol=0, atol=0)
        assert value.dtype == given[key].dtype
    assert not torch.equal(one["metadata"], other["metadata"])
    for key in ("timestamps", "intrinsics", "extrinsics"):
        assert one[key] is given[key]


def test_absent_agent_rows_are_whole() -> None:
    agents = ConditioningDropout(individual=0.5)(conditioning(50), seeded())["agents"]
    gone = agents[..., 12] == -1
    assert gone.any()
    assert agents[gone][:, :12].isnan().all()


def test_only_what_is_there_is_dropped() -> None:
    result = ConditioningDropout(individual=1.0)({"timestamps": torch.zeros(2, 3, 1), "speed": torch.zeros(2, 3)})
    assert list(result) == ["timestamps", "speed"]
    assert result["speed"].isnan().all()
    only = {"timestamps": torch.zeros(2, 3, 1)}
    assert ConditioningDropout()(only) == only


def test_agent_features_are_dropped_per_sample() -> None:
    given = conditioning(5000, t=1, m=2)
    given["agents"][:, :, :, 1] = NAN
    given["agents"][:, :, :, 1, 12] = -1
    dropout = ConditioningDropout(individual=0.0, all=0.0, agent_feature=0.3, agent_instances=False)
    agents = dropout(given, seeded())["agents"]
    lost = agents[:, :, :, 0].isnan().flatten(1, 2)
    assert torch.equal(lost.any(dim=1), lost.all(dim=1))  # the same feature in all cameras
    torch.testing.assert_close(lost[:, 0].float().mean(0), torch.full((13,), 0.3), atol=0.03, rtol=0)
    torch.testing.assert_close(agents[:, :, :, 1], given["agents"][:, :, :, 1], equal_nan=True)


def test_instance_counts_are_constant_over_time_and_uniform() -> None:
    b, t, n, m = 6000, 3, 2, 4
    given = conditioning(b, t, n, m)
    given["agents"][:, :, 1, 2:] = NAN  # the second camera sees two
    given["agents"][:, :, 1, 2:, 12] = -1
    dropout = ConditioningDropout(individual=0.0, all=0.0, agent_feature=0.0)
    agents = dropout(given, seeded())["agents"]
    there = agents[..., 12] >= 0
    count = there.sum(dim=-1)
    assert torch.equal(count.amin(dim=1), count.amax(dim=1))
    for camera, most in ((0, 4), (1, 2)):
        shares = torch.bincount(count[:, 0, camera], minlength=5).float() / b
        expected = torch.tensor([1 / (most + 1)] * (most + 1) + [0.0] * (4 - most))
        torch.testing.assert_close(shares, expected, atol=0.025, rtol=0)
    assert torch.equal(there.any(dim=1), there.all(dim=1))  # a row is kept at all times or never
    chosen = there[:, 0, 0].float().mean(0)
    torch.testing.assert_close(chosen, torch.full((m,), 0.5), atol=0.03, rtol=0)
    torch.testing.assert_close(agents[there], given["agents"][there])


def test_instance_count_follows_the_sampled_frame() -> None:
    # One agent in the first frame, four in the second: the number is up to 1 or up to 4, each half of the time.
    b = 8000
    given = conditioning(b, t=2, n=1, m=4)
    given["agents"][:, 0, :, 1:] = NAN
    given["agents"][:, 0, :, 1:, 12] = -1
    dropout = ConditioningDropout(individual=0.0, all=0.0, agent_feature=0.0)
    count = (dropout(given, seeded())["agents"][..., 12] >= 0).sum(dim=-1)[:, :, 0]
    assert torch.equal(count[:, 0], count[:, 1].clamp(max=1))
    shares = torch.bincount(count[:, 1], minlength=5).float() / b
    torch.testing.assert_close(shares, torch.tensor([0.35, 0.35, 0.1, 0.1, 0.1]), atol=0.025, rtol=0)


def test_no_agent_rows() -> None:
    assert ConditioningDropout()(conditioning(2, m=0))["agents"].shape == (2, 2, 2, 0, 13)


def test_cameras_are_dropped_but_never_all() -> None:
    dropout = ConditioningDropout()
    mask = dropout.drop_cameras(20000, 5, seeded())
    assert mask.dtype == torch.bool
    assert mask.float().mean().item() == pytest.approx(0.9, abs=0.01)
    assert torch.equal(mask, dropout.drop_cameras(20000, 5, seeded()))
    last = ConditioningDropout(camera=1.0).drop_cameras(6000, 3, seeded())
    assert (last.sum(dim=1) == 1).all()
    torch.testing.assert_close(last.float().mean(0), torch.full((3,), 1 / 3), atol=0.03, rtol=0)
    assert ConditioningDropout(camera=0.0).drop_cameras(100, 3).all()


def test_a_share_of_samples_keeps_one_camera_any_of_them() -> None:
    mask = ConditioningDropout(camera=0.0, alone=0.3).drop_cameras(20000, 5, seeded())
    single = mask.sum(dim=1) == 1
    assert (single | mask.all(dim=1)).all()
    assert single.float().mean().item() == pytest.approx(0.3, abs=0.01)
    torch.testing.assert_close(mask[single].float().mean(0), torch.full((5,), 0.2), atol=0.03, rtol=0)
    with pytest.raises(ValueError, match="alone: expected a probability from 0 to 1, got 2"):
        ConditioningDropout(alone=2)


def test_drop_all_keeps_only_geometry_and_time() -> None:
    given = conditioning(2)
    result = drop_all(given)
    for key in ("speed", "curvature", "clip_embedding", "scenario_embedding"):
        assert result[key].isnan().all()
    assert (result["metadata"] == -1).all()
    assert (result["agents"][..., 12] == -1).all()
    assert result["agents"][..., :12].isnan().all()
    for key in ("timestamps", "intrinsics", "extrinsics"):
        assert result[key] is given[key]
    assert not given["speed"].isnan().any()


def test_drop_by_name() -> None:
    given = conditioning(2)
    result = drop(given, ["agents", "weather"])
    changed = (result["metadata"] == -1).all(dim=0)
    assert [name for name, gone in zip(METADATA, changed, strict=True) if gone] == ["weather"]
    assert (result["agents"][..., 12] == -1).all()
    assert result["speed"] is given["speed"]
    assert (drop(given, ["metadata"])["metadata"] == -1).all()
    assert drop({"speed": torch.zeros(1, 2)}, ["agents", "weather"]).keys() == {"speed"}


def test_blank_cameras_leaves_nothing_of_them() -> None:
    given = conditioning(2, n=3) | {"distortion": torch.rand(2, 3, 8), "distortion_model": torch.ones(2, 3).long()}
    mask = torch.tensor([[True, False, True], [False, True, True]])
    result = blank_cameras(given, mask)
    broken = {key: value.clone() for key, value in given.items()}
    for key in ("intrinsics", "extrinsics", "distortion"):
        broken[key][~mask] = NAN
        torch.testing.assert_close(result[key][mask], given[key][mask], rtol=0, atol=0)
    broken["distortion_model"][~mask] = 99
    for key in ("timestamps", "agents"):
        broken[key].transpose(1, 2)[~mask] = NAN
        torch.testing.assert_close(result[key].transpose(1, 2)[mask], given[key].transpose(1, 2)[mask], rtol=0, atol=0)
    again = blank_cameras(broken, mask)
    assert again.keys() == given.keys()
    for key, value in again.items():
        torch.testing.assert_close(value, result[key], rtol=0, atol=0, equal_nan=True)
    assert (result["agents"].transpose(1, 2)[~mask][..., 12] == -1).all()
    assert result["speed"] is given["speed"]


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="unknown condition 'wether'; did you mean 'weather'"):
        drop(conditioning(1), ["wether"])
    with pytest.raises(ValueError, match="unknown condition 'extrinsics'"):
        drop(conditioning(1), ["extrinsics"])
    for name in ("individual", "all", "camera", "agent_feature"):
        with pytest.raises(ValueError, match=f"{name}: expected a probability from 0 to 1, got 1.5"):
            ConditioningDropout(**{name: 1.5})


def test_nothing_is_dropped_in_evaluation() -> None:
    dropout = ConditioningDropout(individual=1.0, all=1.0, camera=1.0).eval()
    given = conditioning(4)
    kept = dropout(given, seeded())
    assert kept.keys() == given.keys()
    assert all(kept[name] is value for name, value in given.items())
    assert dropout.drop_cameras(4, 5).all()
    assert not dropout.train().drop_cameras(4, 5).all()
    assert dropout(given, seeded())["speed"].isnan().all()


def test_conditions_of_ones_own_are_dropped_by_their_own_rates_and_columns() -> None:
    """Two names in place of the library's, and a condition that says its own rate."""
    rare = Rare()
    table = standard_conditions(vocabulary={"a": 3, "b": 3}).plus([rare])
    given = {"speed": torch.zeros(8000, 2), "metadata": torch.zeros(8000, 2).long(), "rare": torch.zeros(8000, 3)}
    dropout = ConditioningDropout(individual=0.6, all=0.0, conditions=table)
    result = dropout(given, seeded())
    gone = torch.cat([result["speed"][:, :1].isnan(), result["metadata"] < 0, result["rare"][:, :1].isnan()], dim=1)
    torch.testing.assert_close(gone.float().mean(dim=0), torch.tensor([0.6, 0.6, 0.6, 0.25]), atol=0.025, rtol=0)
    assert abs(torch.corrcoef(gone.float().T) - torch.eye(4)).max() < 0.05
    everything = drop_all(given, table)
    assert (everything["metadata"] == -1).all()
    assert everything["rare"].isnan().all()
    assert drop(given, ["b"], table)["metadata"].unique(dim=0).tolist() == [[0, -1]]
    assert drop(given, ["rare"], table)["rare"].isnan().all()
    with pytest.raises(ValueError, match="unknown key 'rare'"):
        drop_all(given)


class Rare(Condition):
    """Three numbers that training drops a quarter of the time."""

    name = "rare"
    enters = "global"
    keys = {"rare": Key("b c", {"c": 3}, dropout=0.25)}


def test_a_share_of_zero_never_and_of_one_always_drops() -> None:
    given = conditioning(500)
    never = ConditioningDropout(individual=0.0, all=0.0, agent_feature=0.0, agent_instances=False)(given, seeded())
    assert all(torch.equal(never[key], value) for key, value in given.items())
    always = ConditioningDropout(individual=0.0, all=1.0)(given, seeded())
    assert not kept(always).any()
    assert not kept(ConditioningDropout(individual=1.0, all=0.0)(given, seeded())).any()
    for name in ("individual", "all", "camera", "alone", "agent_feature"):
        with pytest.raises(ValueError, match=f"{name}: expected a probability from 0 to 1, got -0.1"):
            ConditioningDropout(**{name: -0.1})


def test_what_training_drops_by_default() -> None:
    dropout = ConditioningDropout()
    assert (dropout.individual, dropout.all, dropout.camera, dropout.alone) == (0.8, 0.1, 0.1, 0.0)
    assert (dropout.agent_feature, dropout.agent_instances) == (0.3, True)


def test_a_camera_that_does_not_take_part_has_a_plain_geometry() -> None:
    given = conditioning(1, n=3)
    result = blank_cameras(given, torch.tensor([[True, False, True]]))
    assert torch.equal(result["extrinsics"][0, 1], torch.eye(4))
    assert torch.equal(result["intrinsics"][0, 1], torch.ones(4))
    assert (result["timestamps"][0, :, 1] == 0).all()


def test_a_scenario_embedding_stands_in_for_what_it_was_made_of_or_is_absent() -> None:
    b = 4000
    table = standard_conditions(scenario_dim=6)
    names = list(METADATA)
    given = {
        "timestamps": torch.rand(b, 3, 2),
        "speed": torch.rand(b, 3),
        "curvature": torch.rand(b, 3),
        "agents": torch.rand(b, 3, 2, 4, 13),
        "metadata": torch.zeros(b, len(names), dtype=torch.long),
        "scenario_embedding": torch.rand(b, 6),
    }
    before = {key: value.clone() for key, value in given.items()}
    made = keep_scenario_alone(given, 0.25, table, torch.Generator().manual_seed(0))
    assert all(torch.equal(given[key], before[key]) for key in given)
    alone = made["scenario_embedding"].isfinite().all(dim=1)
    assert alone.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(made["scenario_embedding"][alone], given["scenario_embedding"][alone])
    assert made["scenario_embedding"][~alone].isnan().all()
    for key in ("speed", "curvature", "agents"):
        absent = table.owner[key].absent_like(key, given[key])
        torch.testing.assert_close(made[key][alone], absent[alone], equal_nan=True)
        assert torch.equal(made[key][~alone], given[key][~alone])
    stays = [name not in IN_SCENARIO for name in names]
    assert [name for name, stay in zip(names, stays, strict=True) if stay] == ["country", "weather", "time_of_day"]
    assert made["metadata"][alone].eq(0).all(dim=0).tolist() == stays
    assert made["metadata"][~alone].eq(0).all()
    assert torch.equal(made["timestamps"], given["timestamps"])


def test_a_scenario_stands_in_also_where_a_model_has_another_vocabulary() -> None:
    table = standard_conditions(vocabulary={"one_way": 2, "x_dust": 3}, scenario_dim=2)
    given = {"metadata": torch.ones(1, 2, dtype=torch.long), "scenario_embedding": torch.ones(1, 2)}
    assert keep_scenario_alone(given, 1.0, table)["metadata"].tolist() == [[-1, 1]]
