"""What diffusers promises of its models, kept by the world model: files, types, devices, hooks, adapters."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers import AutoModel, attention_backend
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from diffusers.models.attention_processor import AttnProcessor
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file

from gaia2.models.world_model import WorldModel
from gaia2.nn.attention import AttentionProcessor
from tests.tiny import WORLD_MODEL, conditioning, world_model

B, T, N, H, W, C = 2, 2, 2, 2, 3, 4
ATTENTION_LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]
FILE, INDEX = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json"


def inputs(dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    given = conditioning(B, T, N)
    return {
        "hidden_states": torch.randn(B, T, N, H, W, C, generator=generator).to(dtype),
        "timestep": torch.tensor([0.25, 0.75], dtype=dtype),
        "conditioning": {k: v.to(dtype) if v.is_floating_point() else v for k, v in given.items()},
    }


@torch.no_grad()
def run(model: WorldModel, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return model(**inputs(dtype), return_dict=False)[0]


def test_signature_and_outputs() -> None:
    model = world_model()
    names = list(inspect.signature(model.forward).parameters)
    assert names == ["hidden_states", "timestep", "conditioning", "known_mask", "camera_mask", "return_dict"]
    with torch.no_grad():
        output = model(**inputs())
    assert torch.equal(output.sample, output[0])
    assert torch.equal(output["sample"], run(model))
    assert torch.equal(run(model), run(model))


def test_config_round_trip() -> None:
    model = world_model(metadata={"weather": ["dry", "wet"], "district": 12})
    assert dict(WorldModel.from_config(model.config).config) == dict(model.config)
    assert json.loads(model.to_json_string())["metadata"] == [["weather", ["dry", "wet"]], ["district", 12]]
    assert model.conditioning.metadata.sizes == {"weather": 2, "district": 12}


def test_unknown_attributes_are_refused_as_diffusers_does() -> None:
    with pytest.raises(AttributeError, match="'WorldModel' object has no attribute 'does_not_exist'"):
        _ = world_model().does_not_exist


@pytest.mark.parametrize("shard", ["10GB", "20KB"])
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_saves_whole_or_in_shards_with_or_without_a_variant(tmp_path: Path, shard: str, variant: str | None) -> None:
    model = world_model()
    model.save_pretrained(tmp_path, max_shard_size=shard, variant=variant)
    weights = list(tmp_path.glob("*.safetensors"))
    assert len(weights) == 1 if shard == "10GB" else len(weights) > 2
    assert not list(tmp_path.glob("*.bin"))
    loaded, info = WorldModel.from_pretrained(tmp_path, variant=variant, output_loading_info=True)
    assert not any(info[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    assert torch.equal(run(loaded), run(model))
    if variant:
        with pytest.raises(ValueError, match=r"expected a complete WorldModel in this folder.*no file named"):
            WorldModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("low_cpu_mem_usage", [True, False])
def test_loads_in_half_precision_and_computes_in_it(
    tmp_path: Path, dtype: torch.dtype, low_cpu_mem_usage: bool
) -> None:
    model = world_model()
    model.save_pretrained(tmp_path)
    loaded = WorldModel.from_pretrained(tmp_path, torch_dtype=dtype, low_cpu_mem_usage=low_cpu_mem_usage)
    assert loaded.dtype == dtype
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    low = run(loaded, dtype)
    assert low.dtype == dtype
    expected = run(model)
    assert (low.float() - expected).abs().max() < 0.1 * expected.abs().max()


def test_auto_model_finds_the_class(tmp_path: Path) -> None:
    model = world_model()
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(str(tmp_path))
    assert type(loaded) is WorldModel
    assert torch.equal(run(loaded), run(model))


def test_missing_and_unexpected_weights_are_told(tmp_path: Path) -> None:
    world_model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / FILE)
    del weights["proj_out.bias"]
    save_file(weights | {"stray": torch.zeros(1)}, tmp_path / FILE, metadata={"format": "pt"})
    _, info = WorldModel.from_pretrained(tmp_path, output_loading_info=True, low_cpu_mem_usage=False)
    assert set(info["missing_keys"]) == {"proj_out.bias"}
    assert set(info["unexpected_keys"]) == {"stray"}


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_a_device_map_puts_blocks_where_it_says(tmp_path: Path, place: str) -> None:
    model = world_model()
    model.save_pretrained(tmp_path)
    parts = {name: "cpu" for name, _ in model.named_children() if name != "transformer_blocks"}
    device_map = parts | {"transformer_blocks.0": "cpu", "transformer_blocks.1": place, "conditioning": place}
    loaded = WorldModel.from_pretrained(tmp_path, device_map=device_map, offload_folder=str(tmp_path / "offload"))
    assert loaded.hf_device_map["transformer_blocks.1"] == place
    offloaded = loaded.transformer_blocks[1].mlp.up.weight.device.type
    assert offloaded == ("meta" if place == "disk" else "cpu")
    torch.testing.assert_close(run(loaded), run(model), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        dict(offload_type="block_level", num_blocks_per_group=1),
        dict(offload_type="block_level", num_blocks_per_group=2, non_blocking=True),
        dict(offload_type="leaf_level"),
    ],
)
def test_group_offload_changes_nothing(options: dict[str, Any], tmp_path: Path) -> None:
    expected = run(world_model())
    for disk in (None, str(tmp_path)):
        model = world_model()
        model.enable_group_offload(torch.device("cpu"), offload_to_disk_path=disk, **options)
        torch.testing.assert_close(run(model), expected, atol=1e-6, rtol=0)
    assert list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize("storage", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_layerwise_casting_stores_the_blocks_in_fp8(storage: torch.dtype, compute: torch.dtype) -> None:
    model = world_model().to(compute)
    expected, before = run(model, compute), model.get_memory_footprint()
    model.enable_layerwise_casting(storage_dtype=storage, compute_dtype=compute)
    block = model.transformer_blocks[0]
    assert block.mlp.up.weight.dtype == block.cross_attention.to_out[0].weight.dtype == storage
    assert block.norm_mlp.to_shift_scale.weight.dtype == model.proj_out.weight.dtype == compute
    assert {p.dtype for p in model.conditioning.parameters()} == {compute}
    assert model.get_memory_footprint() < before
    got = run(model, compute)
    assert got.dtype == compute
    assert 0 < (got - expected).abs().max() < 0.3 * expected.abs().max()


def test_layerwise_casting_leaves_the_gradients() -> None:
    model = world_model()
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    model.train()(**inputs()).sample.square().mean().backward()
    assert model.transformer_blocks[0].mlp.up.weight.grad is not None


def test_attention_processors_are_found_and_set() -> None:
    model = world_model()
    processors = model.attn_processors
    names = ("spatial", "temporal", "cross")
    assert set(processors) == {f"transformer_blocks.{i}.{name}_attention.processor" for i in range(2) for name in names}
    assert all(isinstance(processor, AttentionProcessor) for processor in processors.values())
    expected = run(model)
    model.set_attn_processor({name: AttentionProcessor() for name in processors})
    assert torch.equal(run(model), expected)
    model.set_attn_processor(AttnProcessor())
    assert {type(processor) for processor in model.attn_processors.values()} == {AttnProcessor}
    with pytest.raises(ValueError, match="number of processors"):
        model.set_attn_processor({next(iter(processors)): AttentionProcessor()})


@pytest.fixture
def backends() -> Iterator[None]:
    """Undoes `set_attention_backend`, which chooses for all models."""
    before, _ = _AttentionBackendRegistry.get_active_backend()
    yield
    _AttentionBackendRegistry.set_active_backend(before)


@pytest.mark.usefixtures("backends")
@pytest.mark.parametrize("backend", ["native", "_native_math"])
def test_an_attention_backend_is_set_for_the_model_or_for_a_time(backend: str) -> None:
    model = world_model()
    expected = run(model)
    with attention_backend(backend):
        for_a_time = run(model)
    model.set_attention_backend(backend)
    assert {p._attention_backend.value for p in model.attn_processors.values()} == {backend}
    assert torch.equal(run(model), for_a_time)
    torch.testing.assert_close(for_a_time, expected, atol=1e-5, rtol=0)
    model.reset_attention_backend()
    assert {p._attention_backend for p in model.attn_processors.values()} == {None}


def test_fused_projections_change_nothing_and_can_be_taken_back() -> None:
    model = world_model()
    expected = run(model)
    model.fuse_qkv_projections()
    block = model.transformer_blocks[0]
    assert hasattr(block.spatial_attention, "to_qkv")
    assert hasattr(block.temporal_attention, "to_qkv")
    assert hasattr(block.cross_attention, "to_kv")
    torch.testing.assert_close(run(model), expected, atol=1e-5, rtol=0)
    model.unfuse_qkv_projections()
    assert not any(hasattr(m, "to_qkv") or hasattr(m, "to_kv") for m in model.modules())
    assert not any(m.fused_projections for m in model.modules() if isinstance(m, AttentionModuleMixin))
    assert torch.equal(run(model), expected)


def test_an_offloaded_model_comes_to_its_device_to_encode_the_conditions() -> None:
    model = world_model()
    calls = []

    class Hook(ModelHook):
        def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            calls.append(module)
            return args, kwargs

    add_hook_to_module(model, Hook())
    model.encode_conditioning(inputs()["conditioning"])
    assert calls == [model]


def test_every_parameter_learns_and_an_average_follows() -> None:
    model = world_model().train()
    ema = EMAModel(model.parameters(), decay=0.5)
    before = [parameter.clone() for parameter in ema.shadow_params]
    model(**inputs()).sample.square().mean().backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert unused == []
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    ema.step(model.parameters())
    ema.step(model.parameters())
    assert any((one != other).any() for one, other in zip(before, ema.shadow_params, strict=True))


def test_gradient_checkpointing_can_be_switched() -> None:
    model = world_model().train()
    assert not model.is_gradient_checkpointing
    model.enable_gradient_checkpointing()
    assert {type(m).__name__ for m in model.modules() if getattr(m, "gradient_checkpointing", False)} == {"WorldModel"}
    calls = []
    model.transformer_blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    model(**inputs()).sample.mean().backward()
    assert len(calls) == 2  # once more for the gradients
    model.disable_gradient_checkpointing()
    assert not model.is_gradient_checkpointing


def lora(rank: int = 4, seed: int = 0) -> Any:
    peft = pytest.importorskip("peft")
    torch.manual_seed(seed)
    return peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=ATTENTION_LAYERS, init_lora_weights=False)


def has_lora(model: WorldModel) -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


def test_lora_goes_to_disk_and_back(tmp_path: Path) -> None:
    model = WorldModel(**WORLD_MODEL).eval()
    plain = run(model)
    model.add_adapter(lora())
    adapted = run(model)
    assert has_lora(model)
    assert not torch.allclose(adapted, plain, atol=1e-4, rtol=1e-4)
    model.save_lora_adapter(tmp_path)
    with pytest.raises(ValueError, match="Adapter name foo not found"):
        model.save_lora_adapter(tmp_path, adapter_name="foo")
    model.unload_lora()
    assert not has_lora(model)
    assert torch.equal(run(model), plain)
    model.load_lora_adapter(tmp_path)
    torch.testing.assert_close(run(model), adapted, atol=1e-6, rtol=0)


def test_a_file_without_weights_of_the_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    with pytest.raises(ValueError, match="expected keys that begin with 'vae' of a WorldModel, got proj_in"):
        world_model().load_lora_adapter({"proj_in.lora_A.weight": torch.zeros(1, 4)}, prefix="vae")
    with pytest.raises(OSError, match="lora"):
        world_model().load_lora_adapter(tmp_path)


def test_lora_adapters_are_chosen_weighted_fused_and_deleted() -> None:
    model = world_model()
    plain = run(model)
    model.add_adapter(lora(seed=0), adapter_name="one")
    model.add_adapter(lora(seed=1), adapter_name="two")
    model.set_adapters("one")
    one = run(model)
    model.set_adapters("two")
    assert not torch.allclose(run(model), one, atol=1e-4)
    model.set_adapters(["one", "two"], weights=[1.0, 0.0])
    torch.testing.assert_close(run(model), one, atol=1e-6, rtol=0)
    model.disable_lora()
    assert torch.equal(run(model), plain)
    model.enable_lora()
    model.delete_adapters("two")
    model.fuse_lora()
    fused = run(model)
    torch.testing.assert_close(fused, one, atol=1e-5, rtol=0)
    model.unfuse_lora()
    torch.testing.assert_close(run(model), one, atol=1e-5, rtol=0)


def test_only_the_adapter_learns() -> None:
    model = world_model().train()
    model.requires_grad_(False)
    model.add_adapter(lora())
    model(**inputs()).sample.square().mean().backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learning
    assert all("lora_" in name for name in learning)


def test_int8_weights_by_config(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    from diffusers import TorchAoConfig
    from torchao.quantization import Int8WeightOnlyConfig
    from torchao.utils import TorchAOBaseTensor

    model = world_model(dim=32)
    model.save_pretrained(tmp_path)
    config = TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=["proj_out"])
    quantized = WorldModel.from_pretrained(tmp_path, quantization_config=config, torch_dtype=torch.float32)
    linears = {name: m for name, m in quantized.named_modules() if isinstance(m, torch.nn.Linear)}
    plain = {name for name, m in linears.items() if not isinstance(m.weight, TorchAOBaseTensor)}
    assert plain == {"proj_out"}
    assert len(linears) > 30
    got, expected = run(quantized), run(model)
    assert 0 < (got - expected).abs().max() < 0.1 * expected.abs().max()
