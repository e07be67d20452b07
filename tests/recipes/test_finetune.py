"""Fine-tuning a released pipeline: what is trained, what stays, and that the result can be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import finetune
import pytest
import torch
from safetensors.torch import load_file

from gaia2.models.world_model import WorldModel
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from tests.recipes.runs import last_state, log_lines, same_tree, save_clips_and_pipeline
from tests.recipes.tiny_preset import PRESET
from tests.tiny import world_model


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return dict(
        **save_clips_and_pipeline(tmp_path_factory.mktemp("given")), steps=6, batch_size=2, validation_clips=1,
        validate_every=3, save_every=3, learning_rate=5e-2, ema_decay=0.5, device="cpu",
    )  # fmt: skip


def test_lora_leaves_the_model_as_it_is_and_can_be_loaded(given: dict[str, Any], tmp_path: Path) -> None:
    folder = finetune.train(finetune.FinetuneRecipe(**given, lora_rank=2, out=tmp_path))
    assert folder == tmp_path / "lora"
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["before"]["step"], report["after"]["step"]) == (0, 6)
    assert report["after"]["validation_loss"] < report["before"]["validation_loss"]

    pipe = Gaia2Pipeline.from_pretrained(given["model"])
    before = {name: value.clone() for name, value in pipe.transformer.state_dict().items()}
    pipe.load_lora_weights(folder)
    after = {name.replace(".base_layer", ""): value for name, value in pipe.transformer.state_dict().items()}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    layers = [name for name in after if "lora_B" in name]
    assert len(layers) == 2 * 3 * 4  # blocks, attentions, projections
    assert all(after[name].any() for name in layers)


def without(given: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**given, "steps": 4, "save_every": 2, "validate_every": 9, "lora_rank": 2, **changes}


def test_a_checkpoint_of_lora_holds_the_adapter_alone_and_a_killed_run_goes_on(
    given: dict[str, Any], tmp_path: Path
) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    finetune.train(finetune.FinetuneRecipe(**without(given), out=straight))
    finetune.train(finetune.FinetuneRecipe(**without(given, keep_every=2), out=stopped))
    shutil.rmtree(stopped / "checkpoints" / "step-000000004")
    finetune.train(finetune.FinetuneRecipe(**without(given), out=stopped))
    state = last_state(straight)
    assert same_tree(last_state(stopped), state)
    assert log_lines(stopped) == log_lines(straight)
    written = [load_file(out / "lora" / "pytorch_lora_weights.safetensors") for out in (stopped, straight)]
    assert same_tree(*written)

    adapters = {name for name in state if "/weights/" in name}
    assert len(adapters) == 2 * 2 * 3 * 4  # of the two matrices: blocks, attentions, projections
    assert all("lora_" in name for name in state if name not in ("step", "learners"))
    size = sum(value.numel() for name, value in state.items() if isinstance(value, torch.Tensor))
    rank, dim = 2, PRESET.world_model["dim"]
    assert size == pytest.approx(2 * 3 * 4 * 2 * rank * dim * 4, rel=0.05)  # weights, average, two moments


def test_lora_goes_on_with_the_same_model_only(given: dict[str, Any], tmp_path: Path) -> None:
    options = without(given, steps=2)
    shutil.copytree(given["model"], tmp_path / "model")
    options["model"] = str(tmp_path / "model")
    finetune.train(finetune.FinetuneRecipe(**options, out=tmp_path / "out"))
    last = tmp_path / "out" / "checkpoints" / "step-000000002"
    world_model(seed=1, **PRESET.world_model).save_pretrained(tmp_path / "model" / "transformer")
    message = r"step-000000002: expected a checkpoint with what was trained beside the weights \w{12}, got one with wh"
    with pytest.raises(ValueError, match=message):
        finetune.train(finetune.FinetuneRecipe(**options | {"steps": 4}, out=tmp_path / "out"))
    facts = json.loads((last / "training.json").read_text())
    del facts["learners"]["world_model"]["base"]  # as checkpoints were before
    (last / "training.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"beside the weights \w{12}, got one with all weights; .* another folder"):
        finetune.train(finetune.FinetuneRecipe(**options | {"steps": 4}, out=tmp_path / "out"))


def test_the_plan_of_lora_has_no_gradients_of_what_is_frozen(given: dict[str, Any], tmp_path: Path) -> None:
    options = dict(data=given["data"], model=given["model"], out=tmp_path, batch_size=2, lora_rank=2)
    lora, full = (finetune.plan(finetune.FinetuneRecipe(**options, method=method)) for method in ("lora", "full"))
    model = WorldModel.from_pretrained(Path(given["model"]) / "transformer")
    assert full.parameters == lora.frozen == sum(parameter.numel() for parameter in model.parameters())
    assert full.frozen == 0
    assert lora.parameters == lora.averaged == 2 * 3 * 4 * 2 * 2 * PRESET.world_model["dim"]
    assert lora.memory("none")["gradients (fp32)"] == 4 * lora.parameters
    assert lora.memory("none")["weights (fp32)"] == 4 * (lora.parameters + lora.frozen)
    assert lora.checkpoint_bytes == 16 * lora.parameters
    assert lora.cost.backward_flops < 1.5 * lora.cost.flops < full.cost.backward_flops
    assert not any(tmp_path.iterdir())
    with pytest.raises(ValueError, match="preset: expected none, as the size is that of --model, got paper"):
        finetune.FinetuneRecipe(**options, preset="paper")


def test_all_weights_are_trained_if_told_to_and_a_killed_run_goes_on(given: dict[str, Any], tmp_path: Path) -> None:
    options = dict(given, method="full", learning_rate=1e-2)
    finetune.train(finetune.FinetuneRecipe(**options | {"steps": 3}, out=tmp_path))
    folder = finetune.train(finetune.FinetuneRecipe(**options, out=tmp_path))
    before = WorldModel.from_pretrained(Path(given["model"]) / "transformer").state_dict()
    after = WorldModel.from_pretrained(folder).state_dict()
    assert before.keys() == after.keys()
    moved = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert len(moved) > 0.8 * len(before)
    lines = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation_loss" in line] == [0, 3, 6]


def test_without_peft(given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.check_peft", lambda: (_ for _ in ()).throw(ImportError("peft is needed")))
    with pytest.raises(ImportError, match="peft"):
        finetune.train(finetune.FinetuneRecipe(**given, out=tmp_path))
    assert not (tmp_path / "checkpoints").exists()
