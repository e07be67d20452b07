"""Writing trained weights: a folder that holds the old model or the new one, never half of each."""

from __future__ import annotations

import copy
from pathlib import Path

from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.training_utils import EMAModel

from gaia2._files import replacing_folder


def export_model(model: ModelMixin | DiffusionPipeline, path: str | Path, *, ema: EMAModel | None = None) -> None:
    """Save a model, with its averaged weights if `ema` is given, or a pipeline, in the folder `path`."""
    if ema is not None:
        model = copy.deepcopy(model)
        ema.copy_to(model.parameters())
    with replacing_folder(path) as unfinished:
        model.save_pretrained(unfinished)
