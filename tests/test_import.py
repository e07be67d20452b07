"""``import gaia2`` is light, complete and helpful."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gaia2

PACKAGES = [
    "gaia2",
    "gaia2.app",
    "gaia2.conditioning",
    "gaia2.data",
    "gaia2.hub",
    "gaia2.losses",
    "gaia2.metrics",
    "gaia2.models",
    "gaia2.nn",
    "gaia2.pipelines",
    "gaia2.schedulers",
    "gaia2.video",
]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def seconds(code: str) -> float:
    """The quickest of five runs of a fresh interpreter."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run(code)
        times.append(time.perf_counter() - start)
    return min(times)


def test_import_loads_no_heavy_library() -> None:
    heavy = {"torch", "diffusers", "transformers", "numpy", "av"}
    assert run(f"import gaia2, sys; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_scene_needs_no_torch() -> None:
    assert run("import gaia2, sys; gaia2.Scene; print('torch' in sys.modules)") == "False"


def test_import_takes_less_than_0_3_s() -> None:
    assert seconds("import gaia2") - seconds("pass") < 0.3


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_exist_and_are_listed(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_same_names(package: str) -> None:
    module = importlib.import_module(package)
    tree = ast.parse(Path(str(module.__file__)).read_text())
    guarded = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for block in guarded for node in ast.walk(block) if isinstance(node, ast.ImportFrom)]
    for node in imports:
        for alias in node.names:
            assert getattr(importlib.import_module(str(node.module)), alias.name) is getattr(module, alias.name)
    seen = {alias.name for node in imports for alias in node.names}
    assert seen == set(module.__all__)


def test_names_that_outside_code_relies_on() -> None:
    promised = {
        "Agents", "CameraRig", "Clip", "FlowMatchScheduler", "Gaia2EditPipeline", "Gaia2Env", "Gaia2InpaintPipeline",
        "Gaia2Pipeline", "Gaia2PipelineOutput", "Scene",
        "VideoDiscriminator", "VideoTokenizer", "WorldModel", "default_model",
    }  # fmt: skip
    assert promised <= set(dir(gaia2))
    assert gaia2.__version__ == "0.1.0"


def test_dir_shows_the_public_names_alone() -> None:
    for package in PACKAGES:
        module = importlib.import_module(package)
        assert {name for name in dir(module) if not name.startswith("__")} == set(module.__all__)
    assert gaia2.presets.mini().tokenizer["latent_channels"] == 64
    assert gaia2.models.presets is gaia2.presets
    for name in ("DiffusionPipeline", "ModelMixin", "SchedulerMixin"):  # diffusers asks for them
        assert getattr(gaia2, name) is getattr(importlib.import_module("diffusers"), name)
        assert name not in dir(gaia2)


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(
        AttributeError, match=r"module 'gaia2' has no attribute 'WorldModle'; did you mean 'WorldModel'\?"
    ):
        gaia2.WorldModle  # noqa: B018
    with pytest.raises(AttributeError, match=r"has no attribute 'xyzzy'$"):
        gaia2.xyzzy  # noqa: B018


def test_submodules_are_attributes() -> None:
    assert run("import gaia2; print(gaia2.models.presets.__name__)") == "gaia2.models.presets"
