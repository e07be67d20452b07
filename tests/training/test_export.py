from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.training.average import WeightAverage
from gaia2.training.export import export_checkpoint, export_model
from gaia2.training.learner import Learner
from gaia2.training.run_checkpoints import RunCheckpoints
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


def checkpointed(path: Path, model: VideoTokenizer) -> tuple[Path, dict[str, torch.Tensor]]:
    """A checkpoint of a model that has moved on from its average; gives the averaged weights as well."""
    averaged = {name: value.clone() for name, value in model.state_dict().items()}
    modules = torch.nn.ModuleDict({"model": model})
    optimizer = torch.optim.AdamW(modules.parameters())
    learner = Learner(modules, optimizer, lambda done: 1.0, average=WeightAverage(model, 0.9))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    checkpoints = RunCheckpoints(path)
    checkpoints.save(1, {f"own/{name}": value for name, value in learner.tensors().items()}, {})
    checkpoints.finish()
    return path / "step-000000001", averaged


def test_a_checkpoint_becomes_a_folder_for_from_pretrained_file_by_file(tmp_path: Path) -> None:
    model = tokenizer(0, latents_mean=[1.0, 2.0, 3.0, 4.0])
    checkpoint, averaged = checkpointed(tmp_path / "run", model)
    with torch.device("meta"):
        empty = VideoTokenizer(**{k: v for k, v in model.config.items() if not k.startswith("_")})
    for size, files in ((10**9, 1), (20_000, 5)):
        export_checkpoint(empty, checkpoint, tmp_path / "out", learner="own", max_file_bytes=size)
        written = list((tmp_path / "out").glob("*.safetensors"))
        assert len(written) >= files
        assert (len(written) > 1) == (files > 1)
        assert all(len(load_file(path)) == 1 or path.stat().st_size < size + 10_000 for path in written)
        loaded = VideoTokenizer.from_pretrained(tmp_path / "out")
        assert same(loaded.state_dict(), averaged)
        assert list(loaded.config.latents_mean) == [1.0, 2.0, 3.0, 4.0]
    export_checkpoint(model, checkpoint, tmp_path / "raw", learner="own", averaged=False)
    assert same(weights(tmp_path / "raw"), model.state_dict())


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    checkpoint, _ = checkpointed(tmp_path / "run", tokenizer())
    with pytest.raises(ValueError, match=r"expected weights other/weights/model.encoder.*, got none; is it of another"):
        export_checkpoint(tokenizer(), checkpoint, tmp_path / "out", learner="other")
    with pytest.raises(ValueError, match=r"expected own/average/.* of \(.*32.*, got \(.*16"):
        export_checkpoint(tokenizer(dim=32), checkpoint, tmp_path / "out", learner="own")
    assert not (tmp_path / "out").exists()


def test_a_pipeline(tmp_path: Path) -> None:
    pipe = Gaia2Pipeline(vae=tokenizer(), transformer=world_model(), scheduler=FlowMatchScheduler())
    export_model(pipe.to(torch.bfloat16), tmp_path / "mini")
    loaded = Gaia2Pipeline.from_pretrained(tmp_path / "mini", dtype=torch.bfloat16)
    assert same(loaded.transformer.state_dict(), pipe.transformer.state_dict())
