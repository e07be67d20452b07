"""Print where the parameters of the paper's world model are, without making them: `python docs/parameter_table.py`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from gaia2.models import presets
from gaia2.models.world_model import WorldModel

CONDITIONS = {
    "agents": "Agent encoder",
    "action": "Action encoder",
    "timestamp": "Timestamp encoder",
    "camera": "Camera encoder",
    "metadata": "Metadata tables",
    "clip": "CLIP projection",
    "scenario": "Scenario projection",
}


def count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def rows(model: WorldModel) -> Iterator[tuple[str, int]]:
    """The parts of a world model and their numbers of parameters; every parameter is in one of them."""
    blocks = model.transformer_blocks
    first = blocks[0]
    parts = {
        "spatial attention": count(first.spatial_attention) + count(first.norm_spatial),
        "temporal attention": count(first.temporal_attention) + count(first.norm_temporal),
        "cross-attention": count(first.cross_attention) + count(first.norm_cross),
        "MLP": count(first.mlp),
        "adaptive layer norm": count(first.norm_mlp),
    }
    for name, number in parts.items():
        yield f"{len(blocks)} blocks: {name}", len(blocks) * number
    for name, label in CONDITIONS.items():
        yield label, count(getattr(model.conditioning, name))
    yield "Flow time embedder", count(model.time_embedder)
    yield "Input and output projections", count(model.proj_in) + count(model.proj_out)
    yield "Last adaptive layer norm", count(model.norm_out)


def table(model: WorldModel) -> str:
    """The parts as a table in Markdown, with their shares."""
    total = count(model)
    lines = ["| Part | Parameters | Share |", "|---|---:|---:|"]
    lines += [f"| {name} | {number:,} | {number / total:.2%} |" for name, number in rows(model)]
    return "\n".join([*lines, f"| **All** | **{total:,}** | |"])


def main() -> None:
    """Print the table of `presets.paper()`."""
    with torch.device("meta"):
        model = WorldModel(**presets.paper().world_model)
    print(table(model))


if __name__ == "__main__":
    main()
