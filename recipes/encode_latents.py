"""Encode clips into shards of latents that the world model is trained on, each clip once (paper §4, World Model).

    python recipes/encode_latents.py --data runs/clips --tokenizer runs/tokenizer/tokenizer --out runs/latents
    torchrun --nproc-per-node 8 recipes/encode_latents.py --data runs/clips --tokenizer runs/tokenizer/tokenizer ...

The processes divide the shards. Stop it at any time and start it again with the same words: whole shards stay. A shard
is made again when the tokenizer, its latents' statistics or the bytes of its clips have changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch.distributed.elastic.multiprocessing.errors import record

from gaia2.data.index import Index
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.encoding import clip_groups, encode_clips_to_shards, load_image_encoder
from gaia2.training.precision import Precision
from gaia2.training.ranks import join_ranks


@dataclass(frozen=True)
class EncodeRecipe:
    """What to encode."""

    data: Path
    """Folder of clips, or of clip shards."""
    tokenizer: Path
    """Folder of the trained tokenizer, whose latents have been measured."""
    out: Path
    """Folder for the shards."""
    image_encoder: str | None = None
    """Folder or hub id of a CLIP image encoder; with it the clips' frames give the CLIP conditions."""
    precision: Precision = "auto"
    """Number format of matrix products; `auto` is bf16 where there are matrix units for it, else fp32."""
    timeout_minutes: float = 600.0
    """After so many minutes in which a rank does not finish its shards the job ends with an error."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to encode."""


def encode(recipe: EncodeRecipe) -> Index:
    """Run the recipe; gives the index of the shards."""
    groups = clip_groups(recipe.data)
    with join_ranks(recipe.device, timeout_minutes=recipe.timeout_minutes) as ranks:
        index = encode_clips_to_shards(
            groups,
            VideoTokenizer.from_pretrained(recipe.tokenizer).to(ranks.device).eval(),
            recipe.out,
            image_encoder=load_image_encoder(recipe.image_encoder, ranks.device),
            precision=recipe.precision,
            ranks=ranks,
        )
        if ranks.is_main:
            index.save(recipe.out)
        ranks.barrier()
    return index


@record
def main() -> None:
    """Read the options and encode."""
    index = encode(tyro.cli(EncodeRecipe, description=__doc__))
    print(f"{len(index.clips)} clips, {index.hours:.2f} hours, in {len(index.shards)} shards")


if __name__ == "__main__":
    main()
