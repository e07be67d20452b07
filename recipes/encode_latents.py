"""Encode clips into shards of latents that the world model is trained on, each clip once (paper §4, World Model).

    python recipes/encode_latents.py --data runs/clips --tokenizer runs/tokenizer/tokenizer --out runs/latents
    torchrun --nproc-per-node 8 recipes/encode_latents.py --data runs/clips --tokenizer runs/tokenizer/tokenizer ...

The processes divide the shards. Stop it at any time and start it again with the same words: whole shards stay. A shard
is made again when the tokenizer, its latents' statistics or the bytes of its clips have changed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch.distributed.elastic.multiprocessing.errors import record

from gaia2.data.index import Index
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.clip_source import ShardFolder, open_clip_source
from gaia2.training.encoding import clip_groups, encode_clips_to_shards, load_image_encoder
from gaia2.training.model_costs import encoding_flops
from gaia2.training.plan import GPUS, GpuName
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
    plan: bool = False
    """Print what the encoding will cost, and do nothing; of the tokenizer its config is read, of clips their index."""
    plan_ranks: int = 1
    """GPUs of the plan."""
    plan_gpu: GpuName = "h100"
    """Kind of GPU of the plan."""
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


def plan(recipe: EncodeRecipe) -> str:
    """What the encoding will cost, to be read.

    Raises:
        FileNotFoundError: If there are no clips.
    """
    with torch.device("meta"):
        tokenizer = VideoTokenizer.from_config(VideoTokenizer.load_config(recipe.tokenizer))
    videos = Counter(_videos(recipe.data))  # of one camera, by their size
    latents = flops = numbers = 0.0
    for (frames, size), count in videos.items():
        times = count * (frames // tokenizer.frames_per_latent)
        cells = math.prod(side // tokenizer.spatial_compression_ratio for side in size)
        latents += times
        flops += times * encoding_flops(tokenizer, size)
        numbers += times * cells * tokenizer.config.latent_channels
    rate = recipe.plan_ranks * GPUS[recipe.plan_gpu].flops
    lines = [
        f"encoding of {recipe.data} on {recipe.plan_ranks} x {recipe.plan_gpu}",
        "",
        f"videos of one camera   {videos.total():,}, {latents:,.0f} latent times",
        f"operations             {flops / 1e12:,.4g} TFLOP",
        f"products alone         {flops / rate / 3600:,.3g} hours at the maker's rate, "
        f"{flops / rate / 0.4 / 3600:,.3g} at 40% utilisation",
        f"latents                {2 * 2 * numbers / 1e9:,.4g} GB, mean and deviation in bfloat16",
    ]
    return "\n".join(lines)


def _videos(folder: Path) -> Iterator[tuple[int, tuple[int, int]]]:
    """Frames and pixels (height, width) of each video of one camera."""
    clips = open_clip_source(folder)
    if isinstance(clips, ShardFolder):
        for entry in clips.entries:
            yield from [(entry.num_frames, entry.image_size)] * len(entry.cameras)
    else:
        yield from [(clips.num_frames, clips.image_size)] * (len(clips) * clips.num_cameras)


@record
def main() -> None:
    """Read the options and encode."""
    recipe = tyro.cli(EncodeRecipe, description=__doc__)
    if recipe.plan:
        print(plan(recipe))
        return
    index = encode(recipe)
    print(f"{len(index.clips)} clips, {index.hours:.2f} hours, in {len(index.shards)} shards")


if __name__ == "__main__":
    main()
