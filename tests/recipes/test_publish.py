"""recipes/publish.py from the command line, and the default model back in a fresh process: the same video."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gaia2
from gaia2.zoo.manifest import MANIFEST
from tests.hub.server import Hub, User

ROOT = Path(__file__).parents[2]
GENERATE = """
import hashlib, sys, torch, gaia2
pipe = gaia2.Gaia2Pipeline.from_pretrained(sys.argv[1], **({"revision": sys.argv[2]} if len(sys.argv) > 2 else {}))
pipe.set_progress_bar_config(disable=True)
scene = gaia2.Scene.create("front", num_frames=24, speed=9.0, weather="rain", time_of_day="dusk")
frames = pipe(scene, num_inference_steps=3, generator=torch.Generator().manual_seed(5)).frames
print("modules", "recipes" in sys.modules, "frames", hashlib.sha256(frames.tobytes()).hexdigest())
"""


def run(hub: Hub, home: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter whose hub is the one of this machine, and whose cache is empty."""
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    env = {**os.environ, **own, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1", **more}
    env.pop("HF_TOKEN", None) if "HF_TOKEN" not in more else None
    return subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.long
def test_the_default_model_comes_back_bit_for_bit(tmp_path: Path) -> None:
    with Hub(users={"hf_writer": User("me", ("lab",))}) as hub:
        words = ["recipes/publish.py", "--repo", "lab/mini", "--tag", "v1", "--num-inference-steps", "1"]
        looked = run(hub, tmp_path / "a", *words, "--dry-run", "--samples", "0")
        assert looked.returncode == 0, looked.stderr
        assert not hub.seen
        size = (gaia2.default_model() / "vae" / "diffusion_pytorch_model.safetensors").stat().st_size
        assert f"{size:,}  vae/diffusion_pytorch_model.safetensors" in looked.stdout
        assert "library_name: gaia2" in looked.stdout
        refused = run(hub, tmp_path / "a", *words, "--samples", "0")
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert refused.stderr.startswith("publish: token: expected one that may write to 'lab/mini', got none")
        done = run(hub, tmp_path / "a", *words, HF_TOKEN="hf_writer")
        assert done.returncode == 0, done.stderr
        commit = hub.repositories["lab/mini"].at("v1")
        assert commit is not None
        assert {"README.md", MANIFEST, "samples/clear_day.png"} <= commit.files.keys()
        published = run(hub, tmp_path / "fresh", "-c", GENERATE, "lab/mini", "v1")
        shipped = run(hub, tmp_path / "fresh", "-c", GENERATE, str(gaia2.default_model()))
        assert published.returncode == shipped.returncode == 0, published.stderr + shipped.stderr
        assert published.stdout.splitlines()[-1] == shipped.stdout.splitlines()[-1]
        again = run(hub, tmp_path / "fresh", "-c", GENERATE, "lab/mini", "v1", HF_HUB_OFFLINE="1")
        assert again.stdout.splitlines()[-1] == shipped.stdout.splitlines()[-1], again.stderr
