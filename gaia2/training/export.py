"""Writing trained weights: a folder that is either the old model or the new one, never half of each."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.training_utils import EMAModel


def export_model(model: ModelMixin | DiffusionPipeline, path: str | Path, *, ema: EMAModel | None = None) -> None:
    """Save a model, with its averaged weights if `ema` is given, or a pipeline, in the folder `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if ema is not None:
        model = copy.deepcopy(model)
        ema.copy_to(model.parameters())
    unfinished, previous = path.with_name(path.name + ".tmp"), path.with_name(path.name + ".old")
    if previous.exists() and not path.exists():  # an earlier call was killed between its two renames
        previous.rename(path)
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.rmtree(previous, ignore_errors=True)
    model.save_pretrained(unfinished)
    if path.exists():
        path.rename(previous)
    unfinished.rename(path)
    shutil.rmtree(previous, ignore_errors=True)
