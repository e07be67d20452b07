"""Arguments of other libraries get a hint, and the methods keep their signatures."""

from __future__ import annotations

import inspect

import pytest

from gaia2 import Gaia2EditPipeline, Gaia2InpaintPipeline, Gaia2Pipeline
from gaia2.pipelines.unknown_arguments import HINTS
from tests.pipelines.helpers import pipeline, scene

CLASSES = (Gaia2Pipeline, Gaia2EditPipeline, Gaia2InpaintPipeline)


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("prompt", "a street", r"say it in the scene: Scene\.create\(prompt=\.\.\.\)"),
        ("height", 64, r"image_size=\(height, width\)"),
        ("seed", 0, r"generator=torch\.Generator\(\)\.manual_seed\(seed\)"),
        ("num_inference_step", 3, r"did you mean num_inference_steps=\?"),
        ("xyzzy", 3, "it has scene, "),
    ],
)
@pytest.mark.parametrize("cls", CLASSES)
def test_they_are_explained(cls: type, name: str, value: object, hint: str) -> None:
    with pytest.raises(TypeError, match=f"^{name}: expected an argument that __call__ has, got '{name}'; {hint}"):
        pipeline(cls)(**{name: value})


def test_stream_explains_too() -> None:
    with pytest.raises(TypeError, match="width: expected an argument that stream has, got 'width'; image_size="):
        pipeline().stream(scene(8), width=64)


@pytest.mark.parametrize("cls", CLASSES)
def test_hints_are_of_what_is_not_there(cls: type) -> None:
    parameters = inspect.signature(cls.__call__).parameters  # type: ignore[operator]
    assert {"scene", "num_inference_steps", "generator"} <= parameters.keys()
    given = set() if cls is Gaia2Pipeline else {"video", "mask", "agents"}  # those tasks take them
    assert not HINTS.keys() & parameters.keys() - given
