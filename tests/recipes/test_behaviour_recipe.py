"""The behaviour encoder's training: it learns, is the same after a kill, and its embeddings train a world model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import train_behaviour_encoder
import train_world_model

from gaia2.models import presets
from gaia2.models.behaviour_encoder import BehaviourEncoder
from gaia2.models.world_model import WorldModel
from tests import tiny
from tests.recipes.runs import killed_after, last_state, log_lines, same_tree
from tests.recipes.tiny_preset import PRESET

SMALL = dict(
    batch_size=4, validation_scenes=8, embedding_dim=4, dim=16, num_blocks=1, num_frames=8, device="cpu",
    validate_every=2, save_every=2, log_every=1,
)  # fmt: skip


def recipe(out: Path, **changes: Any) -> train_behaviour_encoder.BehaviourRecipe:
    return train_behaviour_encoder.BehaviourRecipe(**{"out": out, "steps": 4} | SMALL | changes)


def test_a_killed_training_goes_on_as_if_nothing_had_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = train_behaviour_encoder.train(recipe(tmp_path / "straight"))
    with monkeypatch.context() as patch:
        killed_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train_behaviour_encoder.train(recipe(tmp_path / "killed"))
    assert last_state(tmp_path / "killed")["step"] == 2
    resumed = train_behaviour_encoder.train(recipe(tmp_path / "killed"))
    assert same_tree(*(BehaviourEncoder.from_pretrained(path).state_dict() for path in (straight, resumed)))
    assert log_lines(tmp_path / "straight") == log_lines(tmp_path / "killed")


def test_embeddings_come_to_say_what_happens(tmp_path: Path) -> None:
    train_behaviour_encoder.train(recipe(tmp_path, steps=40, batch_size=8, embedding_dim=32, validate_every=40))
    lines = [line for line in log_lines(tmp_path) if "validation_road" in line]
    first = next(line for line in log_lines(tmp_path) if line["step"] == 1)
    assert lines[-1]["validation_road"] < 0.98 * first["road"]
    assert lines[-1]["validation_ego"] < 0.3 * first["ego"]


def test_a_world_model_is_trained_on_its_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "mini", lambda: PRESET)
    tiny.tokenizer().save_pretrained(tmp_path / "tokenizer")
    encoder = train_behaviour_encoder.train(recipe(tmp_path / "encoder", steps=1))
    options: dict[str, Any] = dict(
        tokenizer=tmp_path / "tokenizer", steps=2, batch_size=12, validation_clips=64, first_shards=1, shards=1, rays=1,
        cameras=(1,), device="cpu", log_every=1, condition_dropout=0.0, all_dropout=0.0,
    )  # fmt: skip
    monkeypatch.setattr(train_world_model, "RenderedSource", small_source)
    trained = train_world_model.train(
        train_world_model.WorldModelRecipe(
            out=tmp_path / "run", scenario_encoder=encoder, scenario_share=0.5, **options
        )
    )
    model = WorldModel.from_pretrained(trained)
    assert "scenario" in (model.config.trained_conditions or ())
    torch.manual_seed(0)
    before = train_world_model.make_model(train_world_model.WorldModelRecipe(out=tmp_path, **options)).state_dict()
    name = "conditioning.scenario.linear.weight"
    assert (model.state_dict()[name] != before[name]).any()
    wider = train_behaviour_encoder.train(recipe(tmp_path / "wider", steps=1, embedding_dim=6))
    with pytest.raises(ValueError, match="scenario_encoder: expected embeddings of the model's 4 numbers, got 6"):
        train_world_model.train(
            train_world_model.WorldModelRecipe(out=tmp_path / "other", scenario_encoder=wider, **options)
        )
    with pytest.raises(ValueError, match="scenario_encoder: expected rendered clips"):
        train_world_model.WorldModelRecipe(out=tmp_path, scenario_encoder=encoder, data=tmp_path, **options)


def small_source(*args: Any, **options: Any) -> Any:
    """As the recipe has it, with shards of 2 clips."""
    from gaia2.training import rendered_latents, world_model_data

    with pytest.MonkeyPatch.context() as patch:
        whole = rendered_latents.RenderedLatents

        def small(*given: Any, **named: Any) -> Any:
            return whole(*given, **named, clips=2)

        patch.setattr(world_model_data, "RenderedLatents", small)
        return world_model_data.RenderedSource(*args, **options | {"num_held_out": 2})
