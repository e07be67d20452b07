"""Conditions of a user's own: they enter where they say, and are collated, checked and left out as the others are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gaia2.conditioning import Condition, ConditioningDropout, ConditioningEncoder, Key, scene_conditioning
from gaia2.conditioning.checks import check_conditioning
from gaia2.conditioning.dropout import blank_cameras, drop, drop_all
from gaia2.conditioning.registry import condition_from_config, register_condition
from gaia2.conditioning.table import ConditionTable, standard_conditions
from gaia2.scene import Scene
from tests.conditioning.test_encoder import NAN, VOCABULARY, B, M, N, T, full

SIZES = dict(vocabulary=VOCABULARY, clip_dim=6, scenario_dim=5)


class Ones(nn.Module):
    """Gives tensors of ones in the shapes it is told, and a mask after the first of two."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.shapes = shapes

    def forward(self, *tensors: torch.Tensor) -> Any:
        made = [torch.ones(shape, dtype=torch.float64) for shape in self.shapes]
        return made[0] if len(made) == 1 else (made[0], made[1].bool())


def make(name: str, enters: Any, keys: Mapping[str, Key], *shapes: tuple[int, ...], **more: Any) -> Condition:
    body = dict(name=name, enters=enters, keys=keys, make_encoder=lambda self, dim: Ones(*shapes))
    return type("Mine", (Condition,), body | more)()


@register_condition
@dataclass(frozen=True)
class Lanes(Condition):
    """Polylines, seen by each camera in its own way."""

    lines: int = 3

    name = "lanes"
    enters = "tokens"

    @property
    def keys(self) -> dict[str, Key]:
        return {"lanes": Key("b t n k c", {"k": self.lines, "c": 2}, aliases=("lines",))}

    def make_encoder(self, dim: int) -> nn.Module:
        return Ones((B, 1, 1, self.lines, dim), (B, 1, 1, self.lines))


@pytest.mark.parametrize(
    ("enters", "shapes", "part"),
    [
        ("modulation", [(B, T, 8)], "action"),
        ("position", [(B, 1, N, 1, 1, 8)], "position"),
        ("position", [(B, T, 1, 2, 3, 8)], "position"),
        ("global", [(B, 2, 8)], "tokens"),
        ("tokens", [(B, T, 1, 4, 8), (B, 1, N, 4)], "tokens"),
    ],
)
def test_it_enters_where_it_says(enters: str, shapes: list[tuple[int, ...]], part: str) -> None:
    torch.manual_seed(0)
    plain = ConditioningEncoder(dim=8, **SIZES).double()
    torch.manual_seed(0)
    more = ConditioningEncoder(dim=8, **SIZES, more=[make("load", enters, {"load": Key("b t")}, *shapes)]).double()
    given = full()
    before, after = plain(given), more(given | {"load": torch.zeros(B, T, dtype=torch.float64)}, grid=(2, 3))
    for name in ("action", "position"):
        added = torch.ones(shapes[0], dtype=torch.float64) if name == part else 0.0
        torch.testing.assert_close(getattr(after, name), getattr(before, name) + added)
    if part != "tokens":
        assert torch.equal(after.tokens, before.tokens)
        return
    new = after.tokens.shape[3] - before.tokens.shape[3]
    place = slice(M, M + new) if enters == "tokens" else slice(-new, None)
    assert (after.tokens[..., place, :] == 1).all()
    assert after.mask[..., place].all()
    others = [k for k in range(after.tokens.shape[3]) if k not in range(after.tokens.shape[3])[place]]
    torch.testing.assert_close(after.tokens[..., others, :], before.tokens)


def test_a_missing_key_is_absent_and_one_of_unknown_size_enters_nothing() -> None:
    seen: list[torch.Tensor] = []

    class Keep(nn.Module):
        def forward(self, load: torch.Tensor) -> torch.Tensor:
            seen.append(load)
            return load.new_zeros(B, T, 8)

    fixed = make("load", "modulation", {"load": Key("b t")}, make_encoder=lambda self, dim: Keep())
    loose = make("cloud", "modulation", {"cloud": Key("b k")}, make_encoder=lambda self, dim: Keep())
    ConditioningEncoder(dim=8, **SIZES, more=[fixed, loose]).double()(full())
    assert len(seen) == 1
    assert seen[0].shape == (B, T)
    assert seen[0].isnan().all()


def test_scenes_become_tensors_the_middle_frame_of_each_latent() -> None:
    table = standard_conditions().plus([Lanes(4)])
    base = Scene.create("surround3", num_frames=16)
    values = np.random.default_rng(0).normal(size=(16, 3, 2, 2))
    scenes = [base.replace(extra={"lanes": ("tv n k c", values)}), base]
    got = scene_conditioning(scenes, conditions=table)["lanes"]
    assert got.shape == (2, 2, 3, 4, 2)
    np.testing.assert_allclose(got[0, :, :, :2], values[[4, 12]], rtol=1e-6)
    assert got[0, :, :, 2:].isnan().all()
    assert got[1].isnan().all()
    assert "lanes" not in scene_conditioning([base], conditions=table)
    assert table.said_by(scenes)[-1] == "lanes"
    assert table.present_in({"lanes": got}) == ["lanes"]
    assert table.present_in({"lanes": got[1:]}) == []
    ids = make("kinds", "global", {"kinds": Key("b k", integer=True)})
    made = scene_conditioning(
        [base.replace(extra={"kinds": ("k", [2, 1])}), base], conditions=standard_conditions().plus([ids])
    )["kinds"]
    assert made.tolist() == [[2, 1], [-1, -1]]


def test_it_is_left_out_by_name_by_chance_and_with_its_camera() -> None:
    table = standard_conditions(vocabulary={"country": 2, "weather": 3, "x_limit": 4}).plus([Lanes()])
    given = full() | {"lanes": torch.rand(B, T, N, 3, 2, dtype=torch.float64)}
    for name in ("lanes", "lines"):
        other = drop(given, [name], table)
        assert other["lanes"].isnan().all()
        assert all(other[key] is given[key] for key in given if key != "lanes")
    assert drop_all(given, table)["lanes"].isnan().all()
    mask = torch.ones(B, N, dtype=torch.bool)
    mask[1, 2] = False
    blank = blank_cameras(given, mask, table)["lanes"]
    assert blank[1, :, 2].isnan().all()
    assert torch.equal(blank[0], given["lanes"][0])

    b = 4000
    many = {"speed": torch.zeros(b, T), "lanes": torch.zeros(b, T, N, 3, 2)}
    seeded = torch.Generator().manual_seed(0)
    left = ConditioningDropout(individual=0.3, all=0.0, conditions=table)(many, seeded)
    gone = left["lanes"].isnan().flatten(1)
    assert torch.equal(gone.any(dim=1), gone.all(dim=1))
    assert gone[:, 0].float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert left["speed"].isnan().any(dim=1).float().mean().item() == pytest.approx(0.3, abs=0.03)
    own = make("load", "modulation", {"load": Key("b t", dropout=0.6)}, (B, T, 8))
    table = standard_conditions().plus([own])
    left = ConditioningDropout(individual=0.3, all=0.0, conditions=table)({"load": torch.zeros(b, T)}, seeded)
    assert left["load"].isnan().any(dim=1).float().mean().item() == pytest.approx(0.6, abs=0.03)
    with pytest.raises(ValueError, match="conditioning: unknown key 'load'"):
        ConditioningDropout()({"load": torch.zeros(b, T)})


def test_values_are_checked() -> None:
    table = standard_conditions(vocabulary={"country": 2, "weather": 3, "x_limit": 4}).plus([Lanes()])
    lanes = torch.zeros(B, T, N, 3, 2, dtype=torch.float64)
    check_conditioning(full() | {"lanes": lanes * NAN}, table)
    with pytest.raises(ValueError, match="lanes: expected finite numbers, or NaN where absent, got inf"):
        check_conditioning(full() | {"lanes": lanes + float("inf")}, table)
    with pytest.raises(ValueError, match=r"lanes: expected \(b=2, t=3, n=4, k=3, c=2\), got \(2, 3, 4, 5, 2\)"):
        check_conditioning(full() | {"lanes": torch.zeros(B, T, N, 5, 2)}, table)


@pytest.mark.parametrize(
    ("name", "enters", "keys", "match"),
    [
        (
            "load",
            "modulation",
            {"speed": Key("b t")},
            "Mine: expected keys .* not taken, got 'speed', which Action",
        ),
        ("agents", "tokens", {"x": Key("b k")}, "Mine: expected a name that is a word and not taken, got 'agents'"),
        ("forward", "tokens", {"x": Key("b k")}, "Mine: expected a name .* got 'forward'"),
        ("my load", "tokens", {"x": Key("b k")}, "Mine: expected a name that is a word"),
        ("load", "modulation", {"x": Key("b t", name="weather")}, "names that are not taken, got 'weather', which is"),
        ("load", "modulation", {"x": Key("b t", aliases=("prompt",))}, "names that are not taken, got 'prompt'"),
        ("load", "cross", {"x": Key("b t")}, "Mine.enters: expected one of .*, got 'cross'"),
        ("load", "global", {"x": Key("k b")}, "Mine: x: expected b first, got the axes 'k b'"),
        ("load", "global", {"x": Key("b k k")}, "Mine: x: expected each axis once"),
        ("load", "global", {"x": Key("b k", {"m": 3})}, "Mine: x: expected fixed sizes of its own axes only"),
        ("load", "global", {"x": Key("b t", {"t": 3})}, "Mine: x: expected fixed sizes of its own axes only"),
        ("load", "global", {"x": Key("b k", dropout=1.5)}, "Mine: x: expected a dropout from 0 to 1"),
        ("load", "global", {"x": Key("b k", {"k": 3}, columns=("a", "b"))}, "Mine: x: expected columns along its sec"),
    ],
)
def test_conditions_that_do_not_fit(name: str, enters: str, keys: dict[str, Key], match: str) -> None:
    with pytest.raises(ValueError, match=f"conditions: .*{match}"):
        ConditioningEncoder(dim=8, more=[make(name, enters, keys)])


@pytest.mark.parametrize(
    ("enters", "shapes", "match"),
    [
        ("modulation", [(B, T, 7)], r"load: what its encoder gives: expected \(b=2, t=3, c=8\), got \(2, 3, 7\)"),
        ("modulation", [(B, 8)], r"load: what its encoder gives: expected \(b=2, t=3, c=8\), got \(2, 8\); see Mine"),
        ("position", [(B, T, N, 2, 2, 8)], r"expected \(b=2, t=3, n=4, h=2, w=3, c=8\), got \(2, 3, 4, 2, 2, 8\)"),
        ("global", [(B, 5, 9)], r"expected \(b=2, k, c=8\), got \(2, 5, 9\)"),
        ("tokens", [(B, T, N, 5, 8)], "load: expected its encoder to give tokens and their mask, got Tensor"),
        ("tokens", [(B, T, N, 5, 8), (B, T, N, 4)], r"expected \(b=2, t=3, n=4, k=5\), got \(2, 3, 4, 4\)"),
        ("global", [(B, 5, 8), (B, 5)], "load: what its encoder gives: expected a tensor .* got tuple"),
    ],
)
def test_an_encoder_that_gives_something_else(enters: str, shapes: list[tuple[int, ...]], match: str) -> None:
    encoder = ConditioningEncoder(dim=8, **SIZES, more=[make("load", enters, {"load": Key("b t")}, *shapes)])
    with pytest.raises(ValueError, match=match):
        encoder.double()(full(), grid=(2, 3))


def test_conditions_that_lack_something() -> None:
    for body, match in (
        (dict(enters="global", keys={}), "conditions: Bare: expected a name that is a word and not taken, got None"),
        (dict(name="bare", keys={}), "conditions: Bare.enters: expected one of .*, got None"),
        (dict(name="bare", enters="global", keys={}, make_encoder=lambda self, dim: 3), "make_encoder: .* got int"),
    ):
        with pytest.raises(ValueError, match=match):
            ConditioningEncoder(dim=8, more=[type("Bare", (Condition,), body)()])


def test_scenes_that_do_not_fit() -> None:
    table, base = standard_conditions().plus([Lanes(2)]), Scene.create("surround3", num_frames=8)
    for extra, match in (
        (
            {"lanes": ("tv k c", np.zeros((8, 2, 2)))},
            r"lanes: expected the axes \(tv, n, k up to 2, c up to 2\)",
        ),
        (
            {"lanes": ("tv n k c", np.zeros((8, 3, 4, 2)))},
            r"lanes: expected .* got \(tv n k c\) of \(8, 3, 4, 2\)",
        ),
        ({"radar": ("tv", np.zeros(8))}, "extra: expected conditions that the world model has, lanes, got 'radar'"),
    ):
        with pytest.raises(ValueError, match=match):
            scene_conditioning(base.replace(extra=extra), conditions=table)
    with pytest.raises(ValueError, match="extra: expected conditions that the world model has, none, got 'lanes'"):
        scene_conditioning(base.replace(extra={"lanes": ("tv n k c", np.zeros((8, 3, 2, 2)))}))


def test_registered_classes_are_found_by_name() -> None:
    assert condition_from_config(Lanes(5).to_config()) == Lanes(5)
    with pytest.raises(ValueError, match=r"expected Lanes to take the fields .*'width'.* that the checkpoint has"):
        condition_from_config({"_class_name": "Lanes", "width": 3})
    with pytest.raises(ValueError, match=r"needs the condition class Radar, which is not registered; import"):
        condition_from_config({"_class_name": "Radar"})
    with pytest.raises(ValueError, match=r"expected instances of gaia2\.conditioning.Condition, got 'lanes'"):
        condition_from_config("lanes")
    with pytest.raises(ValueError, match=r"register_condition: expected a name that is not taken, got Lanes"):
        register_condition(type("Lanes", (Condition,), {"__module__": "elsewhere"}))
    with pytest.raises(ValueError, match=r"register_condition: expected a subclass of gaia2\.conditioning.Condition"):
        register_condition(nn.Linear)
    with pytest.raises(ValueError, match=r"conditions: expected instances of gaia2\.conditioning.Condition"):
        ConditionTable([Lanes])
