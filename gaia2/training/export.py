"""Writing trained weights: a folder that holds the old model or the new one, never half of each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save_file

from gaia2._files import replacing_folder
from gaia2.training.loop import TrainingLoop
from gaia2.training.run_checkpoints import load_tensors, tensor_sizes

GIGABYTE = 10**9


def export_model(model: ModelMixin | DiffusionPipeline, path: str | Path) -> None:
    """Save a model or a pipeline in the folder `path`."""
    with replacing_folder(path) as unfinished:
        model.save_pretrained(unfinished)


def export_checkpoint(
    model: ModelMixin,
    checkpoint: str | Path,
    path: str | Path,
    *,
    learner: str = "model",
    averaged: bool = True,
    max_file_bytes: int = 5 * GIGABYTE,
) -> None:
    """Make a folder for `from_pretrained` from a run's checkpoint, whatever number of ranks wrote it.

    At no time are there more weights in memory than those of one file.

    Args:
        model: A model with the right config; its weights are not looked at, so it may be on the meta device.
        checkpoint: A folder `step-...` of the run.
        path: The folder to write.
        learner: Name of the learner whose `model` it is.
        averaged: Take the averaged weights, which are those to be used (paper §4).
        max_file_bytes: Size of a file of weights, at most.

    Raises:
        ValueError: If the checkpoint has no such weights, or they have other sizes.
    """
    checkpoint = Path(checkpoint)
    sizes = tensor_sizes(checkpoint)
    kept = dict(model.state_dict())
    sources = {}
    for name in kept:
        average, weights = f"{learner}/average/{name}", f"{learner}/weights/model.{name}"
        sources[name] = average if averaged and average in sizes else weights
        if sources[name] not in sizes:
            raise ValueError(f"{checkpoint}: expected weights {weights}, got none; is it of another training?")
    if averaged and not any("/average/" in source for source in sources.values()):
        raise ValueError(f"{checkpoint}: expected averaged weights of {learner}, got none; take averaged=False")
    parts = list(_parts(kept, max_file_bytes))
    with replacing_folder(path) as unfinished:
        _save_config(model, unfinished)
        stem, _, ending = SAFETENSORS_WEIGHTS_NAME.partition(".")
        places: dict[str, str] = {}
        for number, names in enumerate(parts, start=1):
            file = SAFETENSORS_WEIGHTS_NAME if len(parts) == 1 else f"{stem}-{number:05d}-of-{len(parts):05d}.{ending}"
            tensors = {name: torch.empty(kept[name].shape, dtype=kept[name].dtype) for name in names}
            load_tensors(checkpoint, {sources[name]: tensor for name, tensor in tensors.items()})
            save_file(tensors, unfinished / file, metadata={"format": "pt"})
            places |= dict.fromkeys(names, file)
        if len(parts) > 1:
            index = {"metadata": {"total_size": sum(map(_bytes, kept.values()))}, "weight_map": places}
            (unfinished / f"{SAFETENSORS_WEIGHTS_NAME}.index.json").write_text(json.dumps(index, indent=2))


def export_last(
    loop: TrainingLoop, model: ModelMixin, path: str | Path, *, learner: str, averaged: bool = True
) -> Path:
    """Make a folder for `from_pretrained` from the last checkpoint of a training that is done; all ranks take part.

    Args:
        loop: The training.
        model: As for `export_checkpoint`, and so are `learner` and `averaged`.
        path: The folder to write.
        learner: Name of the learner.
        averaged: Take the averaged weights.

    Returns:
        The folder.
    """
    last = loop.checkpoints.newest(verify=False)
    assert last is not None
    if loop.ranks.is_main:
        export_checkpoint(model, last.path, path, learner=learner, averaged=averaged)
    loop.ranks.barrier()
    return Path(path)


def _parts(tensors: Mapping[str, torch.Tensor], most: int) -> Iterator[list[str]]:
    """Names of tensors that fit into one file."""
    names: list[str] = []
    room = most
    for name, tensor in tensors.items():
        if names and _bytes(tensor) > room:
            yield names
            names, room = [], most
        names.append(name)
        room -= _bytes(tensor)
    yield names


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _save_config(model: ModelMixin, folder: Path) -> None:
    """The config, of the model's own class: sharding gives it another, whose name nobody could load."""
    own: Any = next(cls for cls in type(model).__mro__ if not cls.__name__.startswith("FSDP"))
    # what was a default when the model was made may have been recorded since, and diffusers would forget it
    config = {name: value for name, value in model.config.items() if name != "_use_default_values"}
    with torch.device("meta"):
        own.from_config(config).save_config(folder)
