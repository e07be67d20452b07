"""Measure mean and standard deviation of a tokenizer's latents and write them into its config (paper §4).

python recipes/measure_latents.py --data runs/clips --tokenizer runs/tokenizer/tokenizer
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from einops import rearrange
from tqdm import tqdm

from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.clip_source import open_clip_source
from gaia2.training.export import export_model
from gaia2.training.precision import Precision, autocast
from gaia2.video import from_uint8


@dataclass(frozen=True)
class MeasureRecipe:
    """What to measure."""

    data: Path
    """Folder of clips, or of clip shards."""
    tokenizer: Path
    """Folder of the trained tokenizer; its config is rewritten."""
    num_clips: int = 200
    """Clips to encode, at most."""
    validation_clips: int = 64
    """Clips at the beginning of the folder that are left out: those that no training sees."""
    precision: Precision = "auto"
    """Number format of matrix products; `auto` is bf16 where there are matrix units for it, else fp32."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to encode."""


@torch.no_grad()
def measure(recipe: MeasureRecipe) -> Path:
    """Run the recipe; returns the tokenizer's folder."""
    folder: Any = open_clip_source(recipe.data)
    if not 0 <= recipe.validation_clips < len(folder):
        raise ValueError(
            f"validation_clips: expected fewer than the {len(folder)} clips of {recipe.data}, "
            f"got {recipe.validation_clips}"
        )
    rows = range(recipe.validation_clips, len(folder))[: recipe.num_clips]
    tokenizer = VideoTokenizer.from_pretrained(recipe.tokenizer).to(recipe.device).eval()
    means, variances = [], []
    for index in tqdm(rows, desc="measure", unit="clip"):
        cameras = torch.stack([folder.frames(index, camera) for camera in range(folder.num_cameras)])
        whole = cameras[:, : cameras.shape[1] // tokenizer.frames_per_latent * tokenizer.frames_per_latent]
        frames = from_uint8(rearrange(whole, "n tv c hv wv -> n c tv hv wv").to(recipe.device))
        with autocast(recipe.precision, recipe.device):
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
