"""LoRA of a pipeline: files, names, weights, fusing, as diffusers' pipelines have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gaia2 import Gaia2EditPipeline
from tests.pipelines.helpers import pipeline, scene, seeded

peft = pytest.importorskip("peft")


def run(pipe: Any) -> torch.Tensor:
    return pipe(scene(8, "front"), num_inference_steps=1, generator=seeded(), output_type="latent").frames


def adapted(seed: int = 0, alpha: int = 8) -> Any:
    """A pipeline whose world model has an adapter that does something."""
    pipe = pipeline()
    torch.manual_seed(seed)
    pipe.transformer.add_adapter(
        peft.LoraConfig(r=4, lora_alpha=alpha, target_modules=["to_q", "to_out.0", "proj_in"], init_lora_weights=False)
    )
    return pipe


def save(pipe: Any, folder: Path) -> None:
    layers = peft.utils.get_peft_model_state_dict(pipe.transformer, adapter_name="default")
    metadata = pipe.transformer.peft_config["default"].to_dict()
    pipe.save_lora_weights(folder, layers, transformer_lora_adapter_metadata=metadata)


def test_a_pipelines_lora_goes_to_disk_and_back(tmp_path: Path) -> None:
    source, pipe = adapted(), pipeline()
    expected, plain = run(source), run(pipe)
    assert (expected - plain).abs().max() > 1e-3
    save(source, tmp_path / "pipeline")
    source.transformer.save_lora_adapter(tmp_path / "model")
    assert all(name.startswith("transformer.") for name in pipe.lora_state_dict(tmp_path / "pipeline"))
    for name in ("pipeline", "model"):
        pipe.load_lora_weights(tmp_path / name, adapter_name=name)
        assert torch.equal(run(pipe), expected)
        pipe.unload_lora_weights()
        assert torch.equal(run(pipe), plain)


def test_a_model_takes_a_pipelines_file(tmp_path: Path) -> None:
    source, pipe = adapted(), pipeline()
    save(source, tmp_path)
    pipe.transformer.load_lora_adapter(tmp_path)
    assert torch.equal(run(pipe), run(source))


def test_adapters_are_listed_weighted_and_fused(tmp_path: Path) -> None:
    pipe = pipeline()
    expected = {}
    for seed, name in enumerate(("one", "two")):
        source = adapted(seed)
        expected[name] = run(source)
        save(source, tmp_path / name)
        pipe.load_lora_weights(tmp_path / name, adapter_name=name)
    assert pipe.get_list_adapters() == {"transformer": ["one", "two"]}
    pipe.set_adapters(["one", "two"], [0.0, 1.0])
    torch.testing.assert_close(run(pipe), expected["two"], atol=1e-5, rtol=0)
    pipe.set_adapters("one")
    assert pipe.get_active_adapters() == ["one"]
    assert torch.equal(run(pipe), expected["one"])
    pipe.fuse_lora(adapter_names=["one"])
    assert pipe.fused_loras == {"one"}
    torch.testing.assert_close(run(pipe), expected["one"], atol=1e-5, rtol=0)
    pipe.unfuse_lora()
    pipe.delete_adapters("two")
    assert pipe.get_list_adapters() == {"transformer": ["one"]}
    torch.testing.assert_close(run(pipe), expected["one"], atol=1e-5, rtol=0)


def test_the_tasks_share_the_adapter(tmp_path: Path) -> None:
    pipe = adapted()
    assert Gaia2EditPipeline.from_pipe(pipe).get_list_adapters() == {"transformer": ["default"]}


def test_no_layers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="transformer_lora_layers: expected tensors of an adapter, got none"):
        pipeline().save_lora_weights(tmp_path, {})


def test_what_to_install_where_peft_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gaia2.models.lora.is_peft_available", lambda: False)
    for call in (lambda pipe: pipe.load_lora_weights("nowhere"), lambda pipe: pipe.fuse_lora()):
        with pytest.raises(ImportError, match=r"pip install 'gaia2\[lora\]'"):
            call(pipeline())
