"""The checkpoint owns its conditions: vocabulary, categories, the user's own, and what it was trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gaia2.conditioning import Condition, Key, register_condition, registry, scene_conditioning
from gaia2.models.world_model import WorldModel
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.scene import AGENT_CATEGORIES, METADATA, Agents, Scene
from gaia2.schedulers.flow_match import FlowMatchScheduler
from tests.tiny import conditioning, tokenizer, world_model


class HeatEncoder(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1, dim)

    def forward(self, heat: torch.Tensor) -> torch.Tensor:
        there = heat.isfinite()[..., None]
        return torch.where(there, self.linear(heat.nan_to_num()[..., None].to(self.linear.weight.dtype)), 0.0)


@register_condition
@dataclass(frozen=True)
class Heat(Condition):
    """Degrees Celsius."""

    scale: float = 2.0

    name = "heat"
    enters = "modulation"

    @property
    def keys(self) -> dict[str, Key]:
        return {"temperature": Key("b t")}

    def make_encoder(self, dim: int) -> HeatEncoder:
        return HeatEncoder(dim)


def scene(**metadata: object) -> Scene:
    return Scene.create("front", num_frames=16, speed=5.0, **metadata)


def hot(degrees: float) -> Scene:
    return scene(weather="rain").replace(extra={"temperature": ("tv", np.full(16, degrees))})


def pipeline(**changes: object) -> Gaia2Pipeline:
    pipe = Gaia2Pipeline(vae=tokenizer(), transformer=world_model(**changes), scheduler=FlowMatchScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(pipe: Gaia2Pipeline, what: Scene, **options: object) -> np.ndarray:
    pipe.set_progress_bar_config(disable=True)
    return pipe(what, num_inference_steps=2, generator=torch.Generator().manual_seed(0), **options).frames


def test_weights_keep_their_names_and_their_order() -> None:
    model = world_model(ray_map=True, agent_map=True, ground_map=True, conditions=[Heat()])
    names = list(dict.fromkeys(name.split(".")[0] for name in model.conditioning.state_dict()))
    order = ["action", "camera", "timestamp", "agents", "metadata", "clip", "scenario"]
    order += ["ray_map", "agent_map", "ground_map", "heat"]
    assert names == order
    assert {
        "action.speed.0.weight", "action.curvature_null", "camera.distortion.bias", "timestamp.mlp.2.weight",
        "agents.category.weight", "metadata.table.weight", "metadata.offsets", "clip.null", "scenario.linear.weight",
        "ray_map.mlp.0.weight", "agent_map.out.weight", "ground_map.mlp.2.bias",
    } <= set(model.conditioning.state_dict())  # fmt: skip


def test_a_users_condition_is_saved_and_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline(conditions=[Heat(3.0)])
    cold, warm = make(pipe, hot(-10.0)), make(pipe, hot(30.0))
    assert np.abs(cold - warm).max() > 1e-4
    guided = make(pipe, hot(30.0), guidance_scale=3.0, guidance_on=("temperature",))
    assert np.abs(guided - warm).max() > 1e-4
    without = make(pipe, hot(30.0), guidance_scale=0.0, guidance_on=("temperature",))
    np.testing.assert_allclose(without, make(pipe, scene(weather="rain")), atol=1e-5)

    pipe.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "transformer" / "config.json").read_text())
    assert config["conditions"] == [{"_class_name": "Heat", "scale": 3.0}]
    again = Gaia2Pipeline.from_pretrained(tmp_path)
    assert again.transformer.conditions.conditions[-1] == Heat(3.0)
    np.testing.assert_allclose(make(again, hot(30.0)), warm, atol=1e-6)

    monkeypatch.setattr(registry, "_REGISTERED", {})
    with pytest.raises(ValueError, match="this world model needs the condition class Heat, which is not registered"):
        Gaia2Pipeline.from_pretrained(tmp_path)
    model = WorldModel.from_pretrained(tmp_path / "transformer", conditions=[Heat(3.0)])  # or say which
    assert model.conditions.keys["temperature"] == Key("b t")


def test_a_long_video_cuts_the_users_data() -> None:
    pipe, base = pipeline(conditions=[Heat()]), Scene.create("front", num_frames=40)
    rising = base.replace(extra={"temperature": ("tv", np.arange(40.0))})
    late = base.replace(extra={"temperature": ("tv", np.where(np.arange(40) < 24, np.arange(40.0), 50.0))})
    one, other = make(pipe, rising, output_type="latent"), make(pipe, late, output_type="latent")
    assert torch.equal(one[:, :3], other[:, :3])  # the first window knows nothing of the frames after it
    assert (one[:, 3:] - other[:, 3:]).abs().max() > 1e-4


@pytest.fixture
def outgrown() -> Iterator[Callable[[], None]]:
    """Gives a function that makes the library's vocabulary a later one: longer, and in another order."""
    before = dict(METADATA)

    def grow() -> None:
        METADATA["weather"] = ("sandstorm", *reversed(METADATA["weather"]))
        METADATA["road_surface"] = ("asphalt", "gravel")
        METADATA["country"] = METADATA.pop("country")  # now the last one

    yield grow
    METADATA.clear()
    METADATA.update(before)


def test_models_keep_their_vocabulary_when_the_library_outgrows_it(
    tmp_path: Path, outgrown: Callable[[], None]
) -> None:
    pipe, asked = pipeline(), scene(weather="snow", time_of_day="dusk", speed_limit=50)
    before = make(pipe, asked)
    pipe.save_pretrained(tmp_path)
    outgrown()
    assert next(iter(METADATA)) == "weather"
    again = Gaia2Pipeline.from_pretrained(tmp_path)
    np.testing.assert_allclose(make(again, asked), before, atol=1e-6)
    with pytest.raises(ValueError, match="metadata: weather: unknown value 'sandstorm'; did you mean"):
        make(again, scene(weather="sandstorm"))
    with pytest.raises(ValueError, match="metadata: unknown name 'road_surface'"):
        make(again, scene(road_surface="gravel"))
    assert len(world_model().conditioning.metadata.sizes) == 12


def test_the_vocabularys_order_survives_the_file(tmp_path: Path) -> None:
    vocabulary = {"x_zone": ["a", "b"], "country": ["uk", "us"], "bus_lane": [False, True]}
    model = world_model(metadata=vocabulary)
    model.save_pretrained(tmp_path)
    loaded = WorldModel.from_pretrained(tmp_path)
    assert list(loaded.conditioning.metadata.sizes) == list(vocabulary)
    asked = Scene.create("front", num_frames=8, country="us", bus_lane=True)
    for one in (model, loaded):
        assert scene_conditioning(asked, conditions=one.conditions)["metadata"].tolist() == [[-1, 1, 1]]


def test_agents_get_the_models_own_ids() -> None:
    boxes = np.tile([[[12.0, -1.0, 0.8, 4.0, 2.0, 1.5, 0.0], [15.0, 2.0, 0.9, 0.8, 0.8, 1.8, 0.0]]], (16, 1, 1))
    ids = [AGENT_CATEGORIES.index("car"), AGENT_CATEGORIES.index("pedestrian")]
    asked = scene().replace(agents=Agents(boxes, np.tile(ids, (16, 1))))
    turned = world_model(agent_categories=["pedestrian", "car", "rickshaw"])
    assert turned.conditioning.agents.category.num_embeddings == 3
    got = scene_conditioning(asked, conditions=turned.conditions)["agents"][..., 12]
    assert got[0, 0, 0].tolist() == [1.0, 0.0, -1.0]
    usual = scene_conditioning(asked, conditions=world_model().conditions)["agents"][..., 12]
    assert usual[0, 0, 0].tolist() == [*ids, -1.0]
    cars = world_model(agent_categories=["car"])
    with pytest.raises(ValueError, match=r"agents: expected the categories that .* trained with, car, got pedestrian"):
        scene_conditioning(asked, conditions=cars.conditions)
    assert world_model().config.agent_categories == list(AGENT_CATEGORIES)


def test_what_it_was_trained_on_is_recorded_and_warned_of(tmp_path: Path) -> None:
    pipe, asked = pipeline(), scene(weather="snow")
    assert pipe.transformer.config.trained_conditions is None
    assert pipe.transformer.untrained([asked]) == []
    given = scene_conditioning([asked.replace(weather=None), asked.replace(weather=None)])
    given["curvature"][:] = float("nan")
    pipe.transformer.record_trained(given)
    pipe.transformer.record_trained({"clip_embedding": torch.zeros(1, 6)})
    assert pipe.transformer.config.trained_conditions == ["speed", "camera", "timestamps", "clip"]
    pipe.transformer.save_pretrained(tmp_path)
    model = WorldModel.from_pretrained(tmp_path)
    assert model.untrained([asked.replace(curvature=None), asked]) == ["curvature", "metadata"]
    assert model.untrained([asked.replace(curvature=None, weather=None, prompt="a street")]) == []
    pipe.transformer = model
    with pytest.warns(UserWarning, match=r"scene: expected .* trained on, got curvature, metadata, which"):
        pipe.validate(asked)


@pytest.mark.parametrize("bad", [["Heat"], [{"scale": 2.0}]])
def test_conditions_are_conditions(bad: list[object]) -> None:
    with pytest.raises(ValueError, match=r"conditions: expected instances of gaia2\.conditioning\.Condition"):
        world_model(conditions=bad)


def test_masked_cameras_leave_no_nan_in_maps() -> None:
    model = world_model(ray_map=True, agent_map=True, ground_map=True)
    given = {k: v.float() if v.is_floating_point() else v for k, v in conditioning(2, 2, 3).items()}
    mask = torch.tensor([[True, False, True], [True, True, False]])
    for key in ("intrinsics", "extrinsics", "agents"):
        value = given[key].transpose(1, 2) if key == "agents" else given[key]
        value[~mask] = float("nan")
    velocity = model(torch.randn(2, 2, 3, 2, 4, 4), torch.rand(2), given, camera_mask=mask).sample
    velocity.square().sum().backward()
    assert velocity.isfinite().all()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
