from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.training_utils import EMAModel

from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.training.export import export_model
from tests.tiny import tokenizer, world_model


def weights(path: Path) -> dict[str, torch.Tensor]:
    return VideoTokenizer.from_pretrained(path).state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_new_model_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    first, second = tokenizer(0), tokenizer(1)
    export_model(first, tmp_path / "runs" / "tokenizer")
    (tmp_path / "runs" / "tokenizer" / "old-shard.safetensors").touch()
    assert same(weights(tmp_path / "runs" / "tokenizer"), first.state_dict())
    export_model(second, tmp_path / "runs" / "tokenizer")
    assert same(weights(tmp_path / "runs" / "tokenizer"), second.state_dict())
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tokenizer"]
    assert not (tmp_path / "runs" / "tokenizer" / "old-shard.safetensors").exists()


def test_a_failed_export_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tokenizer(0)
    export_model(first, tmp_path / "tokenizer")

    def killed(self: VideoTokenizer, path: Path) -> None:
        (path / "config.json").write_text("{")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(VideoTokenizer, "save_pretrained", killed)
        with pytest.raises(KeyboardInterrupt):
            export_model(tokenizer(1), tmp_path / "tokenizer")
    assert same(weights(tmp_path / "tokenizer"), first.state_dict())
    export_model(tokenizer(2), tmp_path / "tokenizer")
    assert same(weights(tmp_path / "tokenizer"), tokenizer(2).state_dict())


def test_averaged_weights_go_to_the_file_and_not_into_the_training(tmp_path: Path) -> None:
    model = tokenizer(0)
    averaged = {name: value.clone() for name, value in model.state_dict().items()}
    ema = EMAModel(model.parameters(), decay=0.9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    moved = {name: value.clone() for name, value in model.state_dict().items()}
    export_model(model, tmp_path / "tokenizer", ema=ema)
    assert same(weights(tmp_path / "tokenizer"), averaged)
    assert same(model.state_dict(), moved)


def test_a_pipeline(tmp_path: Path) -> None:
    pipe = Gaia2Pipeline(vae=tokenizer(), transformer=world_model(), scheduler=FlowMatchScheduler())
    export_model(pipe.to(torch.bfloat16), tmp_path / "mini")
    loaded = Gaia2Pipeline.from_pretrained(tmp_path / "mini", dtype=torch.bfloat16)
    assert same(loaded.transformer.state_dict(), pipe.transformer.state_dict())
