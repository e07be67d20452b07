"""The command runs, and what it tells is what was measured."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from benchmarks import memory, timing
from benchmarks.__main__ import measure
from benchmarks.floor import Floor, Product
from benchmarks.live import LiveBytes
from benchmarks.settings import Settings
from benchmarks.timing import Spread, exponent, interleaved, ratio


def test_the_floor_counts_every_product_by_its_shape() -> None:
    linear, conv = torch.nn.Linear(8, 4), torch.nn.Conv3d(2, 6, (1, 3, 3), padding=(0, 1, 1))
    x, frames = torch.randn(3, 5, 8), torch.randn(2, 2, 3, 4, 5)
    floor = Floor(lambda: (linear(x), linear(x), conv(frames), x @ x.transpose(1, 2)))
    m = 2 * 3 * 4 * 5
    assert floor.products[Product(15, 8, 4, torch.float32, (False, True))] == 2
    assert floor.products[Product(m, 2 * 9, 6, torch.float32, (False, True))] == 1
    assert floor.product_flops == 2 * 2 * 15 * 8 * 4 + 2 * m * 18 * 6
    assert floor.flops == floor.product_flops + 2 * 3 * 5 * 8 * 5
    assert floor.seconds() > 0


@pytest.mark.parametrize("gradients", [False, True])
def test_the_floor_counts_attention_whatever_kernel_computes_it(gradients: bool) -> None:
    query, key, value = (torch.randn(2, 3, 300, 8, requires_grad=gradients) for _ in range(3))
    linear = torch.nn.Linear(8, 8, bias=False).requires_grad_(False)
    attend = torch.nn.functional.scaled_dot_product_attention

    def run() -> None:
        out = linear(attend(query, key, value))
        if gradients:
            out.sum().backward()

    product, attention = 2 * 2 * 3 * 300 * 8 * 8, 4 * 2 * 3 * 300 * 300 * 8
    expected = product * 2 + attention * 3.5 if gradients else product + attention  # it computes its logits again
    assert Floor(run).flops == expected


def test_the_floor_of_a_backward_pass_is_two_more_products() -> None:
    linear, x = torch.nn.Linear(8, 4, bias=False), torch.randn(5, 8, requires_grad=True)
    floor = Floor(lambda: linear(x).sum().backward())
    assert floor.flops == 3 * 2 * 5 * 8 * 4
    assert sum(floor.products.values()) == 3


def test_works_take_turns_and_ratios_are_of_one_round() -> None:
    order: list[str] = []
    works = {name: (lambda name=name: order.append(name)) for name in "abc"}
    times = interleaved(works, rounds=3, warm_up=1)
    assert [len(times[name]) for name in "abc"] == [3, 3, 3]
    assert ["".join(order[i : i + 3]) for i in range(0, 12, 3)] == ["cab", "abc", "bca", "cab"]
    assert ratio([2.0, 6.0, 5.0], [1.0, 2.0, 5.0]) == Spread(2.0, 1.5, 2.5, 3)
    assert exponent([1, 2, 4], [[3.0, 1.0], [12.0, 1.0], [48.0, 1.0]]) == Spread(1.0, 0.5, 1.5, 2)


def test_the_clock_of_the_processor_does_not_count_waiting() -> None:
    try:
        timing.use_clock("processor")
        assert timing.timed(lambda: time.sleep(0.05)) < 0.04
        timing.use_clock("wall")
        assert timing.timed(lambda: time.sleep(0.05)) >= 0.05
    finally:
        timing.use_clock("wall")


def test_bytes_alive_at_once_are_counted_without_computing() -> None:
    with torch.device("meta"):
        x = torch.empty(1000)
        with LiveBytes() as live:
            a = x + 1
            b = a.view(10, 100) * 2
            del a
            c = b.exp()
    assert live.peak == 8000  # two at a time: views cost nothing, and what was there before does not count
    assert live.now == 8000
    del b, c
    assert live.now == 0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell")
def test_peak_memory_is_what_a_run_held_and_gave_back() -> None:
    assert memory.peak(lambda: torch.ones(64 * 2**18).sum()) == pytest.approx(64, abs=16)


@pytest.mark.long
def test_parts_run_and_their_figures_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    options = dict(json=file, rounds=1, dtypes=("float32",), device="cpu", small=True)
    measure(Settings(("block", "peers"), **options))
    measure(Settings(("temporal_attention", "caches"), **options))
    said = capsys.readouterr().out.splitlines()
    parts = json.loads(file.read_text())["parts"]
    assert list(parts) == ["block", "peers", "temporal_attention", "caches"]
    figures = [figure for part in parts.values() for figure in part["figures"]]
    assert len([line for line in said if ": " in line and "modules in" not in line]) == len(figures)
    assert all(figure["value"]["median"] > 0 for figure in figures)
    assert all("gflop" in figure["details"] for figure in parts["peers"]["figures"])
