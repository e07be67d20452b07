"""What the world model's training does, by its meaning: what the network is shown, what counts, what is exported."""

from __future__ import annotations

import inspect
import json
import math
from typing import Any

import pytest
import torch
import train_world_model
from einops import rearrange

from gaia2.data.clip_folder import write_chunk
from gaia2.models import presets
from gaia2.models.world_model import WorldModel
from gaia2.training.learner import Learner
from gaia2.training.world_model_data import ShardSource
from tests.recipes.tiny_preset import PRESET
from tests.tiny import clip, tokenizer

STEPS, BATCH = 5, 32


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A short training, and all that went in and out of its model."""
    path = tmp_path_factory.mktemp("run")
    write_chunk(path / "clips", 0, [clip(i, 24, "surround3") for i in range(4)])
    tokenizer().save_pretrained(path / "tokenizer")
    batches, calls, weights = [], [], []
    draw, forward, step = ShardSource.batch, WorldModel.forward, Learner.step

    def spy_on_batch(self: ShardSource, *args: Any) -> Any:
        batches.append(draw(self, *args))
        return batches[-1]

    def spy_on_forward(self: WorldModel, *args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(forward).bind(self, *args, **kwargs).arguments
        result = forward(self, *args, **kwargs)
        if torch.is_grad_enabled():
            calls.append({**bound, "velocity": result.sample.detach().clone()})
        return result

    def spy_on_step(self: Learner, number: int) -> float:
        rate = step(self, number)
        weights.append({name: value.detach().clone() for name, value in self.model.named_parameters()})
        return rate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presets, "mini", lambda: PRESET)
        patch.setattr(ShardSource, "batch", spy_on_batch)
        patch.setattr(WorldModel, "forward", spy_on_forward)
        patch.setattr(Learner, "step", spy_on_step)
        out = train_world_model.train(
            train_world_model.WorldModelRecipe(
                data=path / "clips", tokenizer=path / "tokenizer", out=path / "out", steps=STEPS, batch_size=BATCH,
                warmup_steps=2, validation_clips=1, validate_every=99, save_every=99, log_every=1, context_share=0.4,
                inpainting_share=0.3, learning_rate=1e-2, final_learning_rate=1e-3, ema_decay=0.3, precision="fp32",
                device="cpu",
            )
        )  # fmt: skip
    lines = [json.loads(line) for line in (path / "out" / "scalars.jsonl").read_text().splitlines()]
    log = [line for line in lines if "loss" in line]
    assert len(batches) == len(calls) == len(weights) == len(log) == STEPS
    return dict(batches=batches, calls=calls, weights=weights, log=log, out=out)


def noise_of(x: torch.Tensor, call: dict[str, Any]) -> torch.Tensor:
    """The noise that was mixed in, from Eq. 1 solved for it."""
    tau = rearrange(call["timestep"], "b -> b 1 1 1 1 1")
    return (call["hidden_states"] - tau * x) / (1 - tau)


def test_given_tokens_reach_the_network_unchanged_and_the_others_noised(run: dict[str, Any]) -> None:
    noise = []
    for batch, call in zip(run["batches"], run["calls"], strict=True):
        x, known = batch.tensors["x"], call["known_mask"]
        assert known.any()
        assert not known.all()
        assert torch.equal(call["hidden_states"][known], x[known])
        noise.append(noise_of(x, call)[~known])
    drawn = torch.cat(noise).flatten()
    assert drawn.mean().abs() < 0.05
    assert drawn.std() == pytest.approx(1.0, abs=0.05)


def test_the_loss_is_that_of_the_velocity_from_noise_to_data_over_what_is_not_given(run: dict[str, Any]) -> None:
    """Independent of the library's own loss: sign of the target, given tokens and dropped cameras left out."""
    for batch, call, line in zip(run["batches"], run["calls"], run["log"], strict=True):
        x, known, cameras = batch.tensors["x"], call["known_mask"], call["camera_mask"]
        assert not cameras.all()
        velocity = x - noise_of(x, call)
        error = (call["velocity"] - velocity).square().mean(dim=-1)
        counts = ~known & cameras[:, None, :, None, None]
        assert line["loss"] == pytest.approx(error[counts].mean().item(), rel=1e-3)


def test_context_is_from_the_beginning_and_present(run: dict[str, Any]) -> None:
    """Of samples with context, the time of the last given latent is 0."""
    seen = 0
    for call in run["calls"]:
        known = call["known_mask"].flatten(2).all(dim=2)  # (b, t)
        context = known[:, 0] & ~known[:, 1]
        assert (call["conditioning"]["timestamps"][context][:, 0].mean(dim=-1).abs() < 1e-5).all()
        seen += int(context.sum())
    assert seen > 0.2 * STEPS * BATCH


def test_conditions_and_cameras_are_dropped_as_often_as_the_paper_says(run: dict[str, Any]) -> None:
    samples = STEPS * BATCH
    speed = torch.cat([call["conditioning"]["speed"] for call in run["calls"]]).isnan().all(dim=1)
    metadata = torch.cat([call["conditioning"]["metadata"] for call in run["calls"]])
    weather = (metadata >= 0).any(dim=1)
    dropped = 1 - 0.2 * 0.9  # alone with 80%, all together with 10%
    assert speed.double().mean() == pytest.approx(dropped, abs=4 * (dropped * 0.18 / samples) ** 0.5)
    assert weather.double().mean() == pytest.approx(0.18, abs=4 * (0.18 * 0.82 / samples) ** 0.5)
    both = (speed & ~weather).double().mean()
    assert 0.6 < both < 0.9  # they are not always dropped together
    cameras = torch.cat([call["camera_mask"] for call in run["calls"]])
    assert (~cameras).double().mean() == pytest.approx(0.1, abs=4 * (0.09 / cameras.numel()) ** 0.5)
    assert cameras.any(dim=1).all()
    for key in ("intrinsics", "extrinsics", "timestamps"):
        assert all(call["conditioning"][key].isfinite().all() for call in run["calls"])


def test_the_learning_rate_rises_and_falls_along_a_cosine(run: dict[str, Any]) -> None:
    cosine = [1e-3 + 9e-3 * (1 + math.cos(math.pi * done / 3)) / 2 for done in range(3)]
    assert [line["lr"] for line in run["log"]] == pytest.approx([5e-3, 1e-2, *cosine])


def test_the_average_of_the_weights_is_exported(run: dict[str, Any]) -> None:
    exported = dict(WorldModel.from_pretrained(run["out"]).named_parameters())
    average = run["weights"][0]
    for number, weights in enumerate(run["weights"][1:], start=1):
        decay = min(0.3, (1 + number) / (10 + number))
        average = {name: decay * average[name] + (1 - decay) * value for name, value in weights.items()}
    for name, value in average.items():
        torch.testing.assert_close(exported[name], value, atol=1e-6, rtol=1e-5)
    assert any(not torch.allclose(exported[name], value, atol=1e-4) for name, value in run["weights"][-1].items())


def test_the_model_says_what_it_was_trained_on(run: dict[str, Any]) -> None:
    trained = WorldModel.from_pretrained(run["out"]).config.trained_conditions
    assert {"speed", "curvature", "metadata"} <= set(trained)
    assert not {"clip_embedding", "scenario_embedding", "agents"} & set(trained)


def test_windows_begin_anywhere_in_longer_clips(run: dict[str, Any]) -> None:
    starts = [start for batch in run["batches"] for _, start in batch.names]
    assert set(starts) == {0, 1}  # windows of 2 latents of clips of 3
    rows = {row for batch in run["batches"] for row, _ in batch.names}
    assert rows == {1, 2, 3}  # clip 0 is held out


def test_a_model_that_training_begins_with_gets_maps_and_keeps_its_weights(tmp_path: Any) -> None:
    first = WorldModel(**PRESET.world_model)
    first.save_pretrained(tmp_path / "first")
    options = dict(tokenizer=tmp_path, out=tmp_path / "out", start_from=tmp_path / "first")
    again = train_world_model.make_model(train_world_model.WorldModelRecipe(**options))
    larger = train_world_model.make_model(train_world_model.WorldModelRecipe(**options, maps=True))
    assert (larger.config.ray_map, larger.config.agent_map, larger.config.ground_map) == (True, True, True)
    assert not again.config.ray_map
    weights = larger.state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(weights.pop(name), value)
        assert torch.equal(again.state_dict()[name], value)
    assert weights
    assert all(name.split(".")[1] in ("ray_map", "agent_map", "ground_map") for name in weights)
