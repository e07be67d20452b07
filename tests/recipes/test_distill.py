"""Distillation of a tiny pipeline: it gets nearer to its teacher, can be used, and goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import distill
import pytest
import torch
from finetune import add_adapter

from gaia2.models.world_model import WorldModel
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.scene import Scene
from tests import tiny
from tests.recipes.runs import last_state, same_tree, save_clips_and_pipeline


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return dict(
        **save_clips_and_pipeline(tmp_path_factory.mktemp("given")), steps=12, batch_size=2, validation_clips=1,
        validate_every=6, save_every=3, num_inference_steps=2, compared_steps=(2,), compared_clips=1, reference_steps=8,
        cameras=(), learning_rate=2e-2, warmup_steps=2, ema_decay=0.5, teacher_steps=4, device="cpu", precision="fp32",
    )  # fmt: skip


def report(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_text())


def test_the_adapter_brings_two_steps_nearer_to_the_teachers_end(given: dict[str, Any], tmp_path: Path) -> None:
    folder = distill.train(distill.DistillRecipe(**given, lora_rank=4, out=tmp_path))
    assert folder == tmp_path / "lora"
    before, after = report(tmp_path)["before"], report(tmp_path)["after"]
    assert before["validation_distance_2"] == pytest.approx(before["validation_undistilled_2"], rel=1e-5)
    assert after["validation_undistilled_2"] == before["validation_undistilled_2"]
    assert after["validation_distance_2"] < 0.9 * before["validation_distance_2"]

    pipe = Gaia2Pipeline.from_pretrained(given["model"])
    pipe.set_progress_bar_config(disable=True)
    scene, seeded = Scene.create("front", 16, speed=3.0), dict(num_inference_steps=2, output_type="latent")
    plain = pipe(scene, generator=torch.Generator().manual_seed(0), **seeded).frames
    pipe.load_lora_weights(folder)
    few = pipe(scene, generator=torch.Generator().manual_seed(0), **seeded).frames
    assert not torch.equal(plain, few)


def test_the_teachers_pass_leaves_what_is_trained() -> None:
    model = tiny.world_model()
    add_adapter(model, 2, ("to_q",))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    plain = tiny.world_model()
    plain.load_state_dict(
        {name.replace(".base_layer", ""): v for name, v in model.state_dict().items() if "lora" not in name}
    )
    given = [
        torch.randn(1, 2, 1, 4, 8, model.config.latent_channels),
        torch.full((1,), 0.5),
        tiny.conditioning(1, 2, 1),
    ]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        with distill._without_adapters(model) as teacher:  # shards ask at the first pass what is trained
            assert {name for name, parameter in teacher.named_parameters() if parameter.requires_grad} == trained
            taught = teacher(*given).sample
        assert torch.equal(taught, plain(*given).sample)
        assert not torch.equal(taught, model(*given).sample)


def test_an_adapter_goes_on_from_another(given: dict[str, Any], tmp_path: Path) -> None:
    short = {**given, "steps": 2, "warmup_steps": 1, "lora_rank": 4}
    first = distill.train(distill.DistillRecipe(**short, out=tmp_path / "first"))
    distill.train(distill.DistillRecipe(**short, adapter=first, out=tmp_path / "second"))
    ended, began = report(tmp_path / "first")["after"], report(tmp_path / "second")["before"]
    assert began["validation_distance_2"] == pytest.approx(ended["validation_distance_2"], rel=1e-5)
    assert began["validation_distance_2"] != began["validation_undistilled_2"]
    with pytest.raises(ValueError, match=r"adapter: expected one of .* the rank that it was made with"):
        distill.train(distill.DistillRecipe(**{**short, "lora_rank": 2}, adapter=first, out=tmp_path / "third"))
    for wrong in (dict(method="full", adapter=first), dict(adapter=tmp_path / "nowhere")):
        with pytest.raises(ValueError, match="adapter: expected the folder of an adapter, and method lora, got "):
            distill.DistillRecipe(**short, **wrong, out=tmp_path / "third")


@pytest.mark.long
def test_a_stopped_run_ends_with_the_same_bits(given: dict[str, Any], tmp_path: Path) -> None:
    options = given | {"steps": 4, "save_every": 2, "guidance_scale": 2.0, "micro_batch_size": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distill.Comparison, "write", lambda *_: None)
        patch.setattr(distill, "write_before_and_after", lambda *_: None)
        distill.train(distill.DistillRecipe(**options, out=tmp_path / "straight"))
        step, calls = distill.Learner.step, []

        def stop_after_two(self: Any, number: int) -> float:
            if number == 4:
                raise KeyboardInterrupt
            calls.append(number)
            return step(self, number)

        patch.setattr(distill.Learner, "step", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            distill.train(distill.DistillRecipe(**options, out=tmp_path / "stopped"))
        patch.setattr(distill.Learner, "step", step)
        distill.train(distill.DistillRecipe(**options, out=tmp_path / "stopped"))
    assert calls == [1, 2, 3]
    assert same_tree(last_state(tmp_path / "straight"), last_state(tmp_path / "stopped"))


def test_all_weights_if_told_to(given: dict[str, Any], tmp_path: Path) -> None:
    options = given | {"steps": 2, "method": "full", "learning_rate": 2e-3}
    folder = distill.train(distill.DistillRecipe(**options, out=tmp_path))
    before = WorldModel.from_pretrained(Path(given["model"]) / "transformer").state_dict()
    after = WorldModel.from_pretrained(folder).state_dict()
    assert before.keys() == after.keys()
    assert sum(not torch.equal(value, after[name]) for name, value in before.items()) > 0.8 * len(before)


def test_the_plan_counts_student_teacher_and_what_stays() -> None:
    out = Path("none")
    one, guided = (distill.plan(distill.DistillRecipe(out=out, guidance_scale=scale)) for scale in (1.0, 2.0))
    teacher = 26  # four steps near noise as they are, then 4, 6, 6 and 6
    forward = one.cost.flops / (8 + teacher)
    assert guided.cost.flops == pytest.approx((8 + 2 * teacher) * forward)
    assert guided.cost.backward_flops == one.cost.backward_flops
    d, blocks, rank = 224, 6, 16
    attentions, mlp, modulation = 3 * 4 * 2 * d, 2 * 5 * d, 3 * d  # channels in and out of their layers
    assert one.parameters == rank * (blocks * (attentions + mlp + modulation) + modulation)  # the last norm has one
    full = distill.plan(distill.DistillRecipe(out=out, method="full"))
    assert full.frozen == full.parameters == one.frozen
    assert full.cost.backward_flops == pytest.approx(8 * 2 * full.cost.flops / (8 + teacher), rel=0.05)


@pytest.mark.parametrize("name", ["num_inference_steps", "teacher_steps", "compared_clips", "lora_rank"])
def test_numbers_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected a positive number, got 0"):
        distill.DistillRecipe(out=Path("none"), **{name: 0})
