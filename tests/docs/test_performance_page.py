"""The page of speed: its tables are what the figures beside it say, and its formula what the network computes."""

from __future__ import annotations

import json
import re

import pytest
import torch

from benchmarks.floor import Floor
from benchmarks.live import step_flops
from benchmarks.models import Size, conditioning, latents, world_model
from docs import performance_tables as tables


def test_the_tables_are_of_the_figures() -> None:
    page = tables.PAGE.read_text()
    parts = json.loads(tables.FIGURES.read_text())["parts"]
    assert set(parts) <= set(tables.parts_named(page))
    assert tables.filled(page, parts) == page


def test_a_table_says_the_spread_and_what_was_missed() -> None:
    figures = [
        dict(name="fast", against="of the floor", target=1.1, value=dict(median=1.0, low=0.9, high=1.2, rounds=3)),
        dict(name="slow", against="of the floor", target=1.1, value=dict(median=2.0, low=2.0, high=2.0, rounds=3)),
    ]
    machine = dict(date="2026-01-01", device="x", threads=1, clock="wall", rounds=3, torch="2", diffusers="0")
    text = tables.filled(
        "a\n<!-- figures: block -->\nold\n<!-- end -->\nb", {"block": dict(figures=figures, machine=machine)}
    )
    assert "old" not in text
    assert "| fast | 1 (0.9 to 1.2) | of the floor | 1.1, reached |" in text
    assert "| slow | 2 | of the floor | 1.1, missed |" in text
    assert re.match(r"a\n<!-- figures: block -->\n", text)
    assert text.endswith("<!-- end -->\nb")


def test_the_formula_of_the_page_counts_what_the_network_multiplies() -> None:
    size = Size(dim=64, heads=2, blocks=2, times=3, cameras=2, grid=(8, 15))
    model = world_model(size, torch.float32)
    with torch.no_grad():
        held = model.prepare(model.encode_conditioning(conditioning(size), grid=size.grid), size.grid)
        assert held.ready is not None
        x, tau = latents(size, torch.float32), torch.zeros(1)
        counted = Floor(lambda: model(x, tau, held, return_dict=False)).flops
    assert step_flops(size) == pytest.approx(counted, rel=0.01)
