"""Folders of models and pipelines in which one thing is wrong."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from tests.edges.clear import Case
from tests.pipelines.helpers import pipeline

COMPONENTS: dict[str, Any] = {"transformer": WorldModel, "vae": VideoTokenizer}
WEIGHTS = "diffusion_pytorch_model.safetensors"
CONFIGS = {
    "transformer": {
        "num_blocks": (0, -1, "2", 1.5, None),
        "window_latents": (-1, 0, 2.5, "3"),
        "dim": (0, 15, "16", None, 10**12),
        "num_heads": (0, 3, None),
        "latent_channels": (0, 5, -4, None),
        "max_agents": (-1, 0.5),
        "metadata": ({"weather": []}, 5),
        "_class_name": ("VideoTokenizer", "Nothing"),
    },
    "vae": {
        "encoder_blocks": (0, -1, 1.5),
        "decode_window": (2, 0, -3, "3"),
        "latents_std": (0.0, -1.0, [0.1], None),
        "encoder_strides": ([], 2, [[0, 1, 1]] * 3),
        "sample_size": ([0, 0], 32, None),
        "latent_channels": (3, 0, None),
        "_class_name": ("WorldModel",),
    },
}


@cache
def saved() -> Path:
    folder = Path(tempfile.mkdtemp()) / "pipeline"
    pipeline().save_pretrained(folder)
    return folder


def broken_folder(rng: random.Random) -> Case:
    """A pipeline's folder in which one thing is wrong, loaded as a pipeline or as the model."""
    name = rng.choice(sorted(COMPONENTS))
    how = rng.choice(["lacks", "foreign", "shape", "cut", "config", "config", "config", "swapped", "no_file", "json"])
    key, value = None, None
    if how == "config":
        key = rng.choice(sorted(CONFIGS[name]))
        value = rng.choice(CONFIGS[name][key])
    as_pipeline, cut, pick = rng.random() < 0.5, rng.random(), rng.random()

    def load() -> None:
        with tempfile.TemporaryDirectory() as root, silence():
            folder = Path(root) / "pipeline"
            shutil.copytree(saved(), folder)
            spoil(folder, name, how, key, value, cut, pick)
            if as_pipeline:
                Gaia2Pipeline.from_pretrained(folder)
            else:
                COMPONENTS[name].from_pretrained(folder / name)

    names = (str(key), "checkpoint", "pipeline", name, "weights")
    return Case(f"{'pipeline' if as_pipeline else name} with {name} {how} {key} {value}", load, names)


def spoil(folder: Path, name: str, how: str, key: str | None, value: Any, cut: float, pick: float) -> None:
    weights, config = folder / name / WEIGHTS, folder / name / "config.json"
    if how in ("lacks", "foreign", "shape"):
        tensors = load_file(weights)
        chosen = sorted(tensors)[int(pick * len(tensors))]
        if how == "lacks":
            del tensors[chosen]
        else:
            tensors["foreign" if how == "foreign" else chosen] = torch.zeros(*tensors[chosen].shape, 2)
        save_file(tensors, weights)
    elif how == "cut":
        whole = weights.read_bytes()
        weights.write_bytes(whole[: int(cut * 0.99 * len(whole))])
    elif how == "config":
        config.write_text(json.dumps({**json.loads(config.read_text()), key: value}))
    elif how == "swapped":
        vae, transformer = folder / "vae", folder / "transformer"
        vae.rename(folder / "other")
        transformer.rename(vae)
        (folder / "other").rename(transformer)
    elif how == "no_file":
        (weights if pick < 0.5 else config).unlink()
    else:
        config.write_text(config.read_text()[: int(cut * 0.9 * len(config.read_text()))])


@contextlib.contextmanager
def silence() -> Any:
    """diffusers says much about folders that do not load."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def wrong_place(rng: random.Random) -> Case:
    """Something to load from that is no folder."""
    place = rng.choice(
        [
            None,
            "",
            5,
            "/nowhere/at/all",
            "./nowhere",
            str(saved().parent / "pipelin"),
            b"x",
            "no such model",
            [],
            "a/b/c",
        ]
    )
    cls = rng.choice([Gaia2Pipeline, WorldModel, VideoTokenizer])
    return Case(
        f"{cls.__name__}.from_pretrained({place!r})",
        lambda: cls.from_pretrained(place),
        ("pretrained_model_name_or_path",),
    )


def make(rng: random.Random) -> Case:
    return wrong_place(rng) if rng.random() < 0.2 else broken_folder(rng)


MAKERS = {"loading": make}
