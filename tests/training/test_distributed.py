"""Two processes, micro-batches and recomputed activations against one process that has everything at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gaia2.data.clip_folder import write_chunk
from gaia2.models import presets
from gaia2.models.world_model import WorldModel
from gaia2.training.alignment import LeastSquares, MapAlignment
from tests.ranks import run_ranks
from tests.recipes.runs import last_state, log_lines, run_recipe, same_tree
from tests.recipes.tiny_preset import PRESET
from tests.tiny import clip, tokenizer

STEPS = 20


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The options of a run that one process has done, with a step of four samples at once."""
    import train_world_model

    path = tmp_path_factory.mktemp("base")
    write_chunk(path / "clips", 0, [clip(i, 16, "surround3") for i in range(4)])
    tokenizer().save_pretrained(path / "tokenizer")
    options = train_world_model.WorldModelRecipe(
        data=path / "clips", tokenizer=path / "tokenizer", out=path / "out", steps=STEPS, batch_size=4, warmup_steps=2,
        validation_clips=1, validate_every=10, save_every=10, log_every=1, keep_last=9, precision="fp32", device="cpu",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presets, "mini", lambda: PRESET)
        train_world_model.train(options)
    return options


def assert_same_training(one: Path, other: Path, tolerance: float) -> None:
    """Losses, samples, validation and weights agree."""
    lines = log_lines(one), log_lines(other)
    assert len(lines[0]) == len(lines[1]) == STEPS + 2
    for first, second in zip(*lines, strict=True):
        assert first == pytest.approx(second, abs=tolerance, rel=tolerance)
    states = last_state(one), last_state(other)
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        if isinstance(value, torch.Tensor) and "optimizer" not in name:
            torch.testing.assert_close(
                value, states[1][name], atol=tolerance, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.parametrize(
    "changes",
    [dict(micro_batch_size=1), dict(activation_checkpointing="full"), dict(activation_checkpointing="selective")],
    ids=str,
)
def test_micro_batches_and_recomputing_change_nothing(
    changes: dict[str, Any], base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import train_world_model

    monkeypatch.setattr(presets, "mini", lambda: PRESET)
    train_world_model.train(dataclasses.replace(base, out=tmp_path, **changes))
    assert_same_training(tmp_path, base.out, 1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        pytest.param(dict(micro_batch_size=1, shard_ranks=1), marks=pytest.mark.slow),
        pytest.param(dict(activation_checkpointing="full", micro_batch_size=1), marks=pytest.mark.slow),
        pytest.param(dict(context_ranks=2), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_two_ranks_are_one(changes: dict[str, Any], base: Any, tmp_path: Path) -> None:
    run_ranks(run_recipe, "train_world_model", dataclasses.replace(base, out=tmp_path, **changes))
    assert_same_training(tmp_path, base.out, 1e-5)


def mapped_source(given: Path) -> Callable[..., Any]:
    """Opens latents that come with weights of their tokens and maps to align with, as rendered ones do."""
    from gaia2.training.latents import LatentShards
    from gaia2.training.maps import num_cell_maps
    from gaia2.training.world_model_data import Batch, ShardSource

    class Mapped(ShardSource):
        def batch(self, step: int, samples: range, size: int) -> Batch:
            batch = super().batch(step, samples, size)
            x = batch.tensors["x"]
            extra = {"weight": 1 + x[..., 0].abs(), "maps": x[..., :1].sigmoid().repeat(1, 1, 1, 1, 1, num_cell_maps())}
            return batch._replace(tensors={**batch.tensors, **extra})

    def source(recipe: Any, tokenizer: Any, model: Any, ranks: Any) -> Mapped:
        data = LatentShards(given, window=model.config.window_latents, conditions=model.conditions)
        return Mapped(data, 1, recipe.steps, recipe.seed, ranks.device)

    return source


def train_with_maps(rank: int, options: Any, given: Path) -> None:
    """A training on such latents; what a process does."""
    import train_world_model

    train_world_model.open_source = mapped_source(given)
    run_recipe(rank, "train_world_model", options)


@pytest.mark.parametrize(("micro_batch_size", "precision"), [(None, "fp32"), (3, "bf16")])
def test_the_head_of_an_alignment_begins_as_the_best_one_for_trained_weights(
    micro_batch_size: int | None, precision: str, base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import train_world_model

    rows: list[tuple[torch.Tensor, torch.Tensor]] = []
    add, draw_batch = LeastSquares.add, train_world_model.draw_batch

    def drawn(*args: Any) -> Any:
        assert not torch.is_autocast_enabled("cpu")  # data are no part of the forward pass
        return draw_batch(*args)

    def seen(fit: LeastSquares, features: torch.Tensor, maps: torch.Tensor, counts: torch.Tensor) -> None:
        rows.append((features[counts], maps[counts]))
        add(fit, features, maps, counts)

    monkeypatch.setattr(presets, "mini", lambda: PRESET)
    monkeypatch.setattr(LeastSquares, "add", seen)
    monkeypatch.setattr(train_world_model, "draw_batch", drawn)
    monkeypatch.setattr(train_world_model, "open_source", mapped_source(base.out / "latents"))
    still = dict(data=None, steps=1, learning_rate=1e-9, final_learning_rate=1e-9, micro_batch_size=micro_batch_size)
    given = dict(out=tmp_path, hidden_maps=1.0, start_from=base.out / "transformer", precision=precision)
    train_world_model.train(dataclasses.replace(base, **still, **given))
    assert len(rows) == train_world_model.SOLVED_STEPS * (1 if micro_batch_size is None else 2)

    features, maps = (torch.cat(values).double().numpy() for values in zip(*rows, strict=True))
    features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    state = last_state(tmp_path)
    head = [state[f"world_model/weights/align.head.{name}"].numpy() for name in ("weight", "bias")]
    predicted = features @ np.concatenate([head[0].T, head[1][None]])
    best = features @ np.linalg.lstsq(features, maps, rcond=None)[0]
    assert np.square(predicted - maps).mean() == pytest.approx(np.square(best - maps).mean(), rel=0.01)
    trained = WorldModel.from_pretrained(base.out / "transformer")
    for name, value in trained.named_parameters():
        torch.testing.assert_close(state[f"world_model/weights/model.{name}"], value.detach(), atol=1e-6, rtol=0)


def test_without_trained_weights_the_head_begins_at_random(
    base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import train_world_model

    monkeypatch.setattr(presets, "mini", lambda: PRESET)
    monkeypatch.setattr(train_world_model, "open_source", mapped_source(base.out / "latents"))
    still = dict(data=None, steps=1, learning_rate=1e-9, final_learning_rate=1e-9)
    train_world_model.train(dataclasses.replace(base, **still, out=tmp_path, hidden_maps=1.0))
    torch.manual_seed(base.seed)
    weight = last_state(tmp_path)["world_model/weights/align.head.weight"]
    head = MapAlignment(dim=PRESET.world_model["dim"], num_maps=len(weight)).head
    torch.testing.assert_close(weight, head.weight, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_weights_of_tokens_maps_and_subsets_of_cameras_are_the_same_on_two_ranks(base: Any, tmp_path: Path) -> None:
    """The options of the default model's training, which are not of the paper."""
    options = dataclasses.replace(
        base, data=None, steps=6, weighted=True, hidden_maps=1.0, cameras=(1, 3), maps=True, context_noise=0.2,
        start_from=base.out / "transformer",
    )  # fmt: skip
    for name, count in (("one", 1), ("two", 2)):
        run_ranks(train_with_maps, dataclasses.replace(options, out=tmp_path / name), base.out / "latents", count=count)
    states = last_state(tmp_path / "one"), last_state(tmp_path / "two")
    assert log_lines(tmp_path / "one")[-2]["samples"] == log_lines(tmp_path / "two")[-2]["samples"]
    assert states[0]["world_model/weights/align.head.weight"].any()
    for name, value in states[0].items():
        if "/weights/" in name:
            torch.testing.assert_close(value, states[1][name], atol=1e-4, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
def test_two_ranks_in_bfloat16_learn_what_one_does(base: Any, tmp_path: Path) -> None:
    run_ranks(run_recipe, "train_world_model", dataclasses.replace(base, out=tmp_path, precision="bf16", steps=6))
    for line, exact in zip(log_lines(tmp_path), log_lines(base.out)[:5], strict=False):
        assert line["loss"] == pytest.approx(exact["loss"], abs=0.03)


def step_muon(rank: int, copies: int) -> None:
    """Two steps on weights whose rows are divided unevenly, against the same on the whole weights."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    from gaia2.training.muon import Muon

    shapes = (17, 20), (17, 20), (18, 30), (40, 16), (16, 16, 1, 3, 3)
    generator = torch.Generator().manual_seed(0)
    values, *gradients = ([torch.randn(s, generator=generator) for s in shapes] for _ in range(3))
    mesh = init_device_mesh("cpu", (copies, 2 // copies))
    shares = partial(distribute_tensor, device_mesh=mesh, placements=[Replicate(), Shard(0)])
    whole = [torch.nn.Parameter(value.clone()) for value in values]
    shared = [torch.nn.Parameter(shares(value.clone())) for value in values]
    optimizers = Muon(whole, lr=0.1), Muon(shared, lr=0.1)
    for some in gradients:
        for one, other, gradient in zip(whole, shared, some, strict=True):
            one.grad, other.grad = gradient.clone(), shares(gradient.clone())
        for optimizer in optimizers:
            optimizer.step()
    for one, other, value in zip(whole, shared, values, strict=True):
        assert isinstance(other, DTensor)
        torch.testing.assert_close(other.full_tensor(), one, atol=1e-6, rtol=0)
        assert not torch.allclose(one, value, atol=1e-2)
    rows = (9, 8)[rank] if copies == 1 else 17
    assert shared[0].to_local().shape == (rows, 20)


@pytest.mark.parametrize("copies", [1, 2])
def test_muon_is_the_same_on_shards_and_copies(copies: int) -> None:
    run_ranks(step_muon, copies)


def build_a_model(rank: int, recipe: Any) -> None:
    """The main rank's weights reach the others, who never had any."""
    import train_world_model

    from gaia2.training.ranks import join_ranks

    with pytest.MonkeyPatch.context() as patch, join_ranks("cpu") as ranks:
        patch.setattr(presets, "mini", lambda: PRESET)
        model = train_world_model.make_model(recipe, ranks)
        assert {parameter.is_meta for parameter in model.parameters()} == {rank > 0}
        train_world_model.make_learner(recipe, model, ranks, from_main=True)
        for name, value in train_world_model.make_model(recipe).state_dict().items():
            own = model.state_dict()[name]
            assert torch.equal(own.full_tensor() if hasattr(own, "full_tensor") else own, value), name


@pytest.mark.parametrize("trained", [False, True])
def test_only_the_main_rank_builds_the_weights(base: Any, trained: bool) -> None:
    recipe = dataclasses.replace(base, start_from=base.out / "transformer" if trained else None)
    run_ranks(build_a_model, recipe)


@pytest.mark.slow
def test_saved_on_two_ranks_goes_on_with_one_and_with_another_mesh(
    base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    import train_world_model

    half = dataclasses.replace(base, out=tmp_path / "two")
    run_ranks(run_recipe, "train_world_model", half)
    shutil.rmtree(tmp_path / "two" / "checkpoints" / f"step-{STEPS:09d}")
    for name in ("one", "replicas"):
        shutil.copytree(tmp_path / "two", tmp_path / name)
    whole = last_state(tmp_path / "one")
    assert whole["step"] == 10
    monkeypatch.setattr(presets, "mini", lambda: PRESET)
    train_world_model.train(dataclasses.replace(base, out=tmp_path / "one"))
    run_ranks(run_recipe, "train_world_model", dataclasses.replace(base, out=tmp_path / "replicas", shard_ranks=1))
    run_ranks(run_recipe, "train_world_model", half)
    for name in ("one", "replicas", "two"):
        assert_same_training(tmp_path / name, base.out, 1e-6 if name != "two" else 1e-5)
    assert not same_tree(whole, last_state(tmp_path / "one"))


def fail_in_one_rank(rank: int, options: Any) -> None:
    from gaia2.training.learner import Learner

    step = Learner.step

    def step_or_die(self: Learner, number: int) -> float:
        if rank == 1 and number == 2:
            raise RuntimeError("this rank has lost its GPU")
        return step(self, number)

    Learner.step = step_or_die  # type: ignore[method-assign]
    run_recipe(rank, "train_world_model", options)


@pytest.mark.slow
def test_a_dead_rank_ends_the_job_with_its_reason(base: Any, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="this rank has lost its GPU"):
        run_ranks(fail_in_one_rank, dataclasses.replace(base, out=tmp_path))


def ask_for_ranks_that_do_not_divide(rank: int) -> None:
    from gaia2.training.ranks import Ranks, join_ranks

    for name in ("shard_ranks", "context_ranks"):
        match = f"{name}: expected a divisor of the 2 processes, got 3"
        with pytest.raises(ValueError, match=match), join_ranks("cpu", **{name: 3}):
            pass
    with join_ranks("cpu") as ranks:
        assert (ranks.rank, ranks.world) == (rank, 2)
        assert ranks.sum(rank + 1.0, 10.0) == [3.0, 20.0]
        assert ranks.any(rank == 1)
        assert not ranks.any(False)
        with pytest.raises(
            ValueError, match="batch_size: expected a multiple of the 2 ranks that share it, got 3; take"
        ):
            Ranks(rank=rank, world=2).samples(3)


def test_numbers_that_do_not_divide() -> None:
    run_ranks(ask_for_ranks_that_do_not_divide)
