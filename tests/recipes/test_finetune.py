"""Fine-tuning a released pipeline: what is trained, what stays, and that the result can be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import finetune
import pytest
import torch

from gaia2.data.clip_folder import write_chunk
from gaia2.models.world_model import WorldModel
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.schedulers.flow_match import FlowMatchScheduler
from tests.recipes.tiny_preset import PRESET
from tests.tiny import clip, tokenizer, world_model


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("given")
    write_chunk(path / "clips", 0, [clip(i) for i in range(4)])
    model = world_model(**PRESET.world_model)
    Gaia2Pipeline(vae=tokenizer(), transformer=model, scheduler=FlowMatchScheduler()).save_pretrained(path / "model")
    return dict(
        data=path / "clips", model=str(path / "model"), steps=6, batch_size=2, validation_clips=1, validate_every=3,
        save_every=3, learning_rate=5e-2, ema_decay=0.5, device="cpu",
    )  # fmt: skip


def test_lora_leaves_the_model_as_it_is_and_can_be_loaded(given: dict[str, Any], tmp_path: Path) -> None:
    folder = finetune.finetune(finetune.FinetuneRecipe(**given, lora_rank=2, out=tmp_path))
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


def test_all_weights_are_trained_if_told_to_and_a_killed_run_goes_on(given: dict[str, Any], tmp_path: Path) -> None:
    options = dict(given, method="full", learning_rate=1e-2)
    finetune.finetune(finetune.FinetuneRecipe(**options | {"steps": 3}, out=tmp_path))
    folder = finetune.finetune(finetune.FinetuneRecipe(**options, out=tmp_path))
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
        finetune.finetune(finetune.FinetuneRecipe(**given, out=tmp_path))
    assert not (tmp_path / "checkpoints").exists()
