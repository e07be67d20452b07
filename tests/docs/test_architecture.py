"""The page on the architecture is true: its picture, what it names, and the order of its walks."""

from __future__ import annotations

import ast
import doctest
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import draw_architecture
import grimp
import pytest
import torch
from einops import rearrange

from gaia2 import FlowMatchScheduler, Gaia2Pipeline, Scene
from gaia2.conditioning import scene_conditioning
from gaia2.data.procedural import ProceduralWorld
from gaia2.schedulers import solvers
from gaia2.training.world_model_step import WorldModelStep, world_model_loss
from gaia2.video import from_uint8
from tests.docs.test_paper_map import names
from tests.tiny import TOKENIZER, tokenizer, world_model

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
REFERENCE = re.compile(r"`((?:gaia2|docs|tests)/[\w/]+\.py)(?::([\w.]+))?`")


def section(title: str) -> list[tuple[str, str]]:
    """Files and functions that a section names, in its order, each once."""
    text = PAGE.split(f"## {title}\n")[1].split("\n## ")[0].split("\n\nThe tokenizer's training")[0]
    return list(dict.fromkeys((file, symbol) for file, symbol in REFERENCE.findall(text) if symbol))


def called(work: Callable[[], Any]) -> list[tuple[str, str]]:
    """Functions of the package in the order of their first calls."""
    order: dict[tuple[str, str], None] = {}
    prefix = str(ROOT / "gaia2")

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(prefix):
            order.setdefault((str(Path(frame.f_code.co_filename).relative_to(ROOT)), frame.f_code.co_qualname))

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return list(order)


@pytest.mark.parametrize(("file", "symbol"), sorted(set(REFERENCE.findall(PAGE))))
def test_what_it_names_is_there(file: str, symbol: str) -> None:
    node: ast.AST = ast.parse((ROOT / file).read_text())
    for part in symbol.split(".") if symbol else []:
        assert part in names(node), f"{file} has no {symbol}"
        node = names(node)[part]


def test_pages_that_it_leads_to_are_there() -> None:
    for text, folder in ((PAGE, ROOT / "docs"), ((ROOT / "CONTRIBUTING.md").read_text(), ROOT)):
        for target in re.findall(r"\]\(([\w./]+)\)", text):
            assert (folder / target).is_file(), target


def test_its_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
    test = doctest.DocTestParser().get_doctest(code, {}, "architecture.md", None, 0)
    results = doctest.DocTestRunner(verbose=False).run(test)
    del solvers.SOLVERS["midpoint"]
    assert results.attempted > 5
    assert results.failed == 0, capsys.readouterr().out


def test_a_scene_becomes_video_in_the_pages_order(tmp_path: Path) -> None:
    pipe = Gaia2Pipeline(vae=tokenizer(), transformer=world_model(), scheduler=FlowMatchScheduler())
    pipe.set_progress_bar_config(disable=True)

    def work() -> None:
        scene = Scene.create("front", num_frames=8, speed=8.0)
        pipe(scene, num_inference_steps=2).save_video(tmp_path / "a.mp4")

    walk = section("From a scene to video")
    assert len(walk) > 30
    assert [step for step in called(work) if step in walk] == walk


def test_a_clip_becomes_a_loss_in_the_pages_order() -> None:
    world = ProceduralWorld(rig="front", image_size=TOKENIZER["sample_size"], num_frames=16)
    vae, transformer = tokenizer(), world_model()
    step = WorldModelStep()

    def work() -> None:
        (clip,) = world.sample([0])
        frames = from_uint8(rearrange(torch.as_tensor(clip.frames), "tv n c hv wv -> n c tv hv wv"))
        with torch.no_grad():
            latents = vae.normalize(vae.encode(frames).latent_dist.mean)
        conditioning = scene_conditioning(clip.scene, frames_per_latent=vae.frames_per_latent)
        x = rearrange(latents, "n c t h w -> 1 t n h w c")
        world_model_loss(transformer, step.draw(x, conditioning, torch.Generator().manual_seed(0))).backward()

    walk = section("From a clip to a loss")
    assert len(walk) > 15
    assert [step for step in called(work) if step in walk] == walk


def test_the_picture_shows_the_imports_that_there_are() -> None:
    graph = grimp.build_graph("gaia2", exclude_type_checking_imports=True, cache_dir=None)
    pairs = set()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            ends = [module.split(".")[1] for module in (importer, imported) if "." in module]
            if len(ends) == 2 and ends[0] != ends[1] and not any(end.startswith("_") for end in ends):
                pairs.add(tuple(ends))
    root = ElementTree.parse(draw_architecture.PICTURE).getroot()
    drawn = {(part.get("data-from"), part.get("data-to")) for part in root.iter() if part.get("class") == "arrow"}
    assert drawn == pairs, "draw it anew: python docs/draw_architecture.py"
    shown = {part.get("data-name") for part in root.iter() if part.get("class") == "room"}
    assert shown == {name.split(".")[1] for name in graph.find_children("gaia2") if not name.startswith("gaia2._")}
    height = {part.get("data-name"): float(part.get("y", 0)) for part in root.iter() if part.get("class") == "room"}
    assert all(height[above] < height[below] for above, below in pairs)


def test_the_picture_is_always_the_same() -> None:
    assert draw_architecture.svg(draw_architecture.rooms()) == draw_architecture.PICTURE.read_text(encoding="utf-8")


def test_rooms_that_import_each_other_are_named() -> None:
    room = draw_architecture.Room
    found = {"a": room("a", "", {"b"}), "b": room("b", "", set(), {"c"}), "c": room("c", "", {"a"})}
    with pytest.raises(ValueError, match="rooms import each other in a circle: a -> b -> c -> a"):
        draw_architecture.levels(found)
