"""The README's Python passes a type checker, and what it makes has a type."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MORE = """
tuple_ = pipe(scene, return_dict=False)
edited = gaia2.Gaia2EditPipeline.from_pipe(pipe)(scene, video.pixels(), strength=0.5)
made = block(tokens, torch.zeros_like(tokens), torch.randn(1, 3, 64), torch.randn(1, 3, 5, 6, 64))
tokenizer = gaia2.VideoTokenizer.from_pretrained(gaia2.default_model(), subfolder="vae")
reveal_type(tokenizer)
reveal_type(pipe)
reveal_type(video)
reveal_type(tuple_)
reveal_type(edited)
reveal_type(made)
pipe(scene, number_of_steps=3)
made.frames
"""
REVEALED = [
    "gaia2.models.video_tokenizer.VideoTokenizer",
    "gaia2.pipelines.pipeline_gaia2.Gaia2Pipeline",
    "gaia2.pipelines.output.Gaia2PipelineOutput",
    "tuple[Any, list[gaia2.scene.scene.Scene]]",
    "gaia2.pipelines.output.Gaia2PipelineOutput",
    "torch._tensor.Tensor",
]


def test_the_readme_passes_mypy_and_has_types(tmp_path: Path) -> None:
    """One run, which shares its cache with `make lint`. The last two lines are mistakes that it has to find."""
    pytest.importorskip("mypy")
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(snippets) >= 2
    code = "\n".join(snippets)
    file = tmp_path / "readme.py"
    file.write_text(code + MORE)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", str(file)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    # by its name: where mypy knows the text from an earlier run, it tells the folder of that run
    lines = [line.split(f"{file.name}:", 1)[1] for line in told.splitlines() if f"{file.name}:" in line]
    assert re.findall(r'Revealed type is "(.*)"', told) == REVEALED, told
    mistakes = [line for line in lines if "error:" in line]
    last = len((code + MORE).splitlines())
    assert [int(line.split(":")[0]) for line in mistakes] == [last - 1, last], told
    assert "No overload variant" in mistakes[0]
    assert '"Tensor" has no attribute "frames"' in mistakes[1]
