"""Measure mean and standard deviation of a tokenizer's latents and write them into its config (paper §4).

python recipes/measure_latents.py --data data/clips --tokenizer runs/tokenizer/tokenizer
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from einops import rearrange
from tqdm import trange

from gaia2.data.clip_folder import ClipFolder
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.export import export_model
from gaia2.video import from_uint8


@dataclass(frozen=True)
class MeasureRecipe:
    """What to measure."""

    data: Path
    """Folder of clips."""
    tokenizer: Path
    """Folder of the trained tokenizer; its config is rewritten."""
    num_clips: int = 200
    """Clips to encode, from the beginning of the folder."""
    bf16: bool = True
    """Compute in bfloat16 by autocast."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to encode."""


@torch.no_grad()
def measure(recipe: MeasureRecipe) -> Path:
    """Run the recipe; returns the tokenizer's folder."""
    folder = ClipFolder(recipe.data)
    tokenizer = VideoTokenizer.from_pretrained(recipe.tokenizer).to(recipe.device).eval()
    means, variances = [], []
    for index in trange(min(recipe.num_clips, len(folder)), desc="measure", unit="clip"):
        frames = from_uint8(rearrange(folder.frames(index), "tv n c hv wv -> n c tv hv wv").to(recipe.device))
        with torch.autocast(recipe.device.split(":")[0], torch.bfloat16, enabled=recipe.bf16):
            latent_dist = tokenizer.encode(frames).latent_dist
        means.append(rearrange(latent_dist.mean.float(), "n c t h w -> c (n t h w)").cpu())
        variances.append(rearrange(latent_dist.var.float(), "n c t h w -> c (n t h w)").cpu())
    mean, variance = torch.cat(means, dim=1).double(), torch.cat(variances, dim=1).double()
    std = (mean.var(dim=1) + variance.mean(dim=1)).sqrt()
    tokenizer.register_to_config(latents_mean=mean.mean(dim=1).tolist(), latents_std=std.tolist())
    export_model(tokenizer, recipe.tokenizer)
    return recipe.tokenizer


if __name__ == "__main__":
    measure(tyro.cli(MeasureRecipe, description=__doc__))
