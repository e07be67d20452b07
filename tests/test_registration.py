"""diffusers records our classes as ``["gaia2", name]`` and loads them, whichever of the two is imported first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PREAMBLES = {
    "diffusers first": "from diffusers import DiffusionPipeline\nimport gaia2",
    "gaia2 first, and a name of it used": (
        "import gaia2\nimport diffusers\nfrom diffusers import DiffusionPipeline\n"
        "assert not hasattr(diffusers, 'Gaia2Pipeline')  # no hook: importing gaia2 leaves diffusers alone\n"
        "gaia2.Scene"
    ),
    "from the defining module": (
        "from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline\nfrom diffusers import DiffusionPipeline"
    ),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline of tiny models with random weights."""
    from gaia2 import FlowMatchScheduler, Gaia2Pipeline, VideoTokenizer, WorldModel

    vae = VideoTokenizer(
        latent_channels=4,
        dim=16,
        num_heads=4,
        encoder_blocks=1,
        decoder_blocks=(1, 1),
        encoder_strides=((2, 4, 4), (2, 2, 2), (1, 2, 2)),
        decoder_strides=((1, 2, 2), (2, 2, 2), (4, 4, 4)),
        sample_size=(32, 64),
    )
    transformer = WorldModel(latent_channels=4, dim=16, num_heads=2, num_blocks=1, window_latents=2)
    folder = tmp_path_factory.mktemp("checkpoint")
    Gaia2Pipeline(vae=vae, transformer=transformer, scheduler=FlowMatchScheduler()).save_pretrained(folder)
    return folder


def test_checkpoint_names_the_library_and_no_module_path(checkpoint: Path) -> None:
    index = json.loads((checkpoint / "model_index.json").read_text())
    assert index["_class_name"] == "Gaia2Pipeline"
    assert index["vae"] == ["gaia2", "VideoTokenizer"]
    assert index["transformer"] == ["gaia2", "WorldModel"]
    assert index["scheduler"] == ["gaia2", "FlowMatchScheduler"]


@pytest.mark.parametrize("preamble", PREAMBLES.values(), ids=PREAMBLES.keys())
def test_diffusers_loads_it_in_a_new_process(checkpoint: Path, preamble: str) -> None:
    code = f"""{preamble}
pipe = DiffusionPipeline.from_pretrained({str(checkpoint)!r})
print([type(x).__module__ for x in (pipe, pipe.vae, pipe.transformer, pipe.scheduler)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(
        [
            "gaia2.pipelines.pipeline_gaia2",
            "gaia2.models.video_tokenizer",
            "gaia2.models.world_model",
            "gaia2.schedulers.flow_match",
        ]
    )


@pytest.mark.parametrize("first", ["import gaia2\nfrom diffusers import AutoModel, ModularPipeline", ""])
def test_diffusers_own_loaders_need_gaia2_imported_before_or_after_it(checkpoint: Path, first: str) -> None:
    """diffusers 0.42.1 imports no library by itself that a checkpoint names; `make compat` runs this with it."""
    code = f"""{first or "from diffusers import AutoModel, ModularPipeline; import gaia2"}
folder = {str(checkpoint)!r}
print([type(AutoModel.from_pretrained(folder, subfolder=name)).__name__ for name in ("transformer", "vae")])
print(type(ModularPipeline.from_pretrained(folder)).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['WorldModel', 'VideoTokenizer']", "Gaia2ModularPipeline"]


def test_registration_loads_no_pipeline_of_diffusers() -> None:
    """All of them together take a second, and say things about packages that nobody asked for."""
    code = (
        "import diffusers, sys, gaia2; gaia2.Gaia2Pipeline\n"
        "print('diffusers.pipelines.auto_pipeline' in sys.modules, hasattr(diffusers, 'Gaia2ModularPipeline'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "True"], done.stderr
