"""Memory: what is held while weights are read, what a network evaluation needs, and what the paper's model would."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.live import peak_bytes
from benchmarks.memory import MIB, peak
from benchmarks.models import PAPER_WIDTH, TINY, Size, conditioning, latents, world_model
from benchmarks.parts.blocks import step
from benchmarks.settings import Settings
from benchmarks.timing import Figure, Spread, collect
from gaia2.models import presets
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel

PAPER = replace(PAPER_WIDTH, blocks=22)
WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "int8 or fp8": 1}


def measure(settings: Settings) -> Iterator[Figure]:
    """Peaks of loading and of the network, and the table of the paper's model, which is computed."""
    size = TINY if settings.small else Size(dim=1024, heads=16)
    with tempfile.TemporaryDirectory() as folder:
        world_model(size, torch.float32).save_pretrained(folder)
        collect()
        weights = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors")) / MIB
        values = [peak(lambda: WorldModel.from_pretrained(folder)) / weights for _ in range(3)]
        yield Figure("memory", "peak of loading", "of the file", Spread.of(values), 1.5, {"mib": weights})
    yield from _network(settings)
    if not settings.small:
        yield from paper()


def _network(settings: Settings) -> Iterator[Figure]:
    """What the tensors of a network evaluation hold at the most, counted, and what the process took."""
    size = TINY if settings.small else Size()
    for name, dtype in zip(settings.dtypes, settings.torch_dtypes, strict=True):
        model = world_model(size, dtype, settings.device)
        run = step(model, size, dtype, settings.device)
        run()
        counted = peak_bytes(run) / MIB
        tokens = size.tokens * size.dim * dtype.itemsize / MIB
        details = {"size": str(size), "counted_mib": counted, "tokens_mib": tokens}
        measured = Spread.of([peak(run) / counted for _ in range(3)])
        yield Figure("memory", f"peak of the network, {name}", "of its tensors", measured, None, details)


def paper() -> Iterator[Figure]:
    """GiB that the paper's models need to generate five cameras at 448x960, by kind of weights; on the meta device."""
    preset = presets.paper()
    given = {name: tensor.to("meta") for name, tensor in conditioning(PAPER).items()}
    with torch.device("meta"):
        model = WorldModel(**preset.world_model).to(torch.bfloat16).eval()
        vae = VideoTokenizer(**preset.tokenizer).to(torch.bfloat16).eval()
        x, tau = latents(PAPER, torch.bfloat16, "meta"), torch.empty(1)
        with torch.no_grad():
            held = model.prepare(model.encode_conditioning(given, grid=PAPER.grid), PAPER.grid)
        window = torch.empty(1, 64, 3, *PAPER.grid, dtype=torch.bfloat16)
    gib = 1024 * MIB
    blocks = sum(p.numel() for p in model.transformer_blocks.parameters())
    rest = sum(p.numel() for p in model.parameters()) - blocks
    tokenizer = sum(p.numel() for p in vae.parameters())
    keys = sum(t.nbytes for one in _tensors(held) for t in one)
    network = peak_bytes(lambda: model(x, tau, held, return_dict=False), on_meta=True)
    decoder = peak_bytes(lambda: vae.decode(window, return_dict=False), on_meta=True)
    shared = {
        "keys and values": keys / gib,
        "a step's tensors": network / gib,
        "tokenizer's weights": 2 * tokenizer / gib,
        "decoding a window of one camera": decoder / gib,
    }
    for name, size in WEIGHT_BYTES.items():
        weights = (size * blocks + max(2, size) * rest) / gib
        total = weights + shared["keys and values"] + shared["tokenizer's weights"] + max(network, decoder) / gib
        details = {"weights": weights, **shared}
        yield Figure("memory", f"paper preset, blocks in {name}", "GiB", Spread.of([total]), None, details)
    largest = max(sum(p.nbytes for p in block.parameters()) for block in model.transformer_blocks) / gib
    total = 2 * largest + 2 * rest / gib + shared["keys and values"] + max(network, decoder) / gib
    details = {"two blocks": 2 * largest, **shared}
    named = "paper preset, blocks in bfloat16 offloaded, two at a time on the device"
    yield Figure("memory", named, "GiB", Spread.of([total]), None, details)


def _tensors(held: Any) -> Iterator[tuple[torch.Tensor, ...]]:
    """Keys and values of each block."""
    for one in held.ready.tokens:
        yield (one,) if isinstance(one, torch.Tensor) else tuple(one)
