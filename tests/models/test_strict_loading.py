"""Loading refuses what would give another model than the one that was saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gaia2.models.world_model import WorldModel
from tests.tiny import world_model

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    world_model().save_pretrained(tmp_path / "world_model")
    return tmp_path / "world_model"


def change(folder: Path, **values: object) -> None:
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **values}))


def test_what_was_saved_is_loaded_and_diffusers_information_is_there(folder: Path) -> None:
    model, info = WorldModel.from_pretrained(folder, output_loading_info=True)
    assert torch.equal(model.proj_in.weight, world_model().proj_in.weight)
    assert not info["missing_keys"]


def test_a_tensor_that_is_missing(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["proj_in.weight"]
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(
        ValueError, match="expected the weights of a WorldModel of this config, got some that lack proj_in"
    ):
        WorldModel.from_pretrained(folder)


def test_a_tensor_that_is_foreign(folder: Path) -> None:
    save_file({**load_file(folder / WEIGHTS), "other": torch.zeros(2)}, folder / WEIGHTS)
    with pytest.raises(ValueError, match="got some that have the foreign other; are they of another model"):
        WorldModel.from_pretrained(folder)


def test_weights_of_another_size(folder: Path) -> None:
    save_file({**load_file(folder / WEIGHTS), "proj_in.bias": torch.zeros(2)}, folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"expected a complete WorldModel in this folder, got one .*proj_in.bias"):
        WorldModel.from_pretrained(folder)


def test_weights_cut_short(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(
        ValueError, match=r"world_model: expected a complete WorldModel in this folder, got one that does"
    ):
        WorldModel.from_pretrained(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_blocks": 0}, "num_blocks: expected a whole number from 1 to 1000, got 0"),
        ({"window_latents": -1}, "window_latents: expected a whole number from 1 to 1000, got -1"),
        ({"dim": 18}, "dim: expected a multiple of 4, got 18"),
    ],
)
def test_a_config_that_makes_no_model(folder: Path, values: dict[str, object], message: str) -> None:
    change(folder, **values)
    with pytest.raises(ValueError, match=message):
        WorldModel.from_pretrained(folder)


def test_a_folder_misspelt(folder: Path) -> None:
    near = "got '.*world_modl'; there is no such folder, did you mean '.*world_model'"
    with pytest.raises(ValueError, match=f"pretrained_model_name_or_path: expected a folder, .*{near}"):
        WorldModel.from_pretrained(folder.parent / "world_modl")
