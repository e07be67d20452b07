"""A tiny model and its studio, and the values of the page's controls."""

from __future__ import annotations

from typing import Any

from gaia2.app.form import Form
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.schedulers.flow_match import FlowMatchScheduler
from tests.tiny import tokenizer, world_model

ROAD = (("weather", ("clear", "snow")), ("x_road", ("dry", "wet")), ("one_way", (False, True)), ("x_lane", 3))
"""A vocabulary that is not the library's own."""


def tiny_pipeline(**changes: Any) -> Gaia2Pipeline:
    pipe = Gaia2Pipeline(vae=tokenizer(), transformer=world_model(**changes), scheduler=FlowMatchScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def controls(**changes: Any) -> dict[str, Any]:
    """Values of all controls, for a short video of one camera."""
    values: dict[str, Any] = {
        "drawing": Form().drawing(),
        "rig": "front",
        "rig_file": None,
        "seconds": 0.8,
        "prompt": "",
        "metadata": {},
        "steps": 1,
        "guidance": 1.0,
        "seed": 0,
        "source": [],
        "context": 1,
        "strength": 0.5,
        "mask": {},
        "agents": False,
    }
    assert set(changes) <= set(values)
    return values | changes
