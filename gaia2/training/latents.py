"""Clips encoded once: the latents and conditions that the world model is trained on, in memory.

Axes: i clips, t latent time, n cameras, h w latent grid, c channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from einops import rearrange
from tqdm import trange

from gaia2.conditioning.collate import scene_conditioning
from gaia2.data.clip_folder import ClipFolder
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.checkpoint import load_checkpoint, save_checkpoint
from gaia2.video.pixels import from_uint8


@dataclass(frozen=True)
class LatentDataset:
    """Latent distributions and conditions of clips.

    Attributes:
        mean: Mean of the normalised latents, `(i, t, n, h, w, c)`.
        std: Standard deviation, the same axes.
        mean_latents: Mean over the training clips, `(t, n, h, w, c)`.
        conditioning: The world model's conditions by name, `(i, ...)`.
    """

    mean: torch.Tensor
    std: torch.Tensor
    mean_latents: torch.Tensor
    conditioning: dict[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.mean)

    def to(self, device: torch.device | str) -> LatentDataset:
        """The same data on another device."""
        return replace(
            self,
            mean=self.mean.to(device),
            std=self.std.to(device),
            mean_latents=self.mean_latents.to(device),
            conditioning={name: value.to(device) for name, value in self.conditioning.items()},
        )

    def batch(
        self, rows: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Sampled latents `(b, t, n, h, w, c)` and conditions of the clips `rows (b,)`; the generator is a CPU one."""
        rows = rows.to(self.mean.device)
        mean, std = self.mean[rows], self.std[rows]
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        conditioning = {name: value[rows] for name, value in self.conditioning.items()}
        return mean + std * noise, conditioning

    @classmethod
    @torch.no_grad()
    def encode(
        cls, folder: ClipFolder, tokenizer: VideoTokenizer, *, cache: str | Path, held_out: int, max_agents: int = 16
    ) -> LatentDataset:
        """Encode a folder of clips, or read what an earlier call with the same clips and weights left in `cache`.

        Args:
            folder: The clips.
            tokenizer: The trained tokenizer, with its `latents_mean` and `latents_std`.
            cache: File for the result.
            held_out: Clips at the beginning of the folder that do not count in `mean_latents`.
            max_agents: Boxes kept for each camera and time.
        """
        cache = Path(cache)
        weights = float(sum(p.double().abs().sum() for p in tokenizer.encoder.parameters()))
        origin = {"clips": len(folder), "held_out": held_out, "max_agents": max_agents, "weights": weights}
        if cache.is_file():
            state = load_checkpoint(cache)
            if state.pop("origin") == origin:
                return cls(**state)
        means, stds, conditions = [], [], []
        for index in trange(len(folder), desc="encode", unit="clip"):
            frames = from_uint8(rearrange(folder.frames(index), "tv n c hv wv -> n c tv hv wv").to(tokenizer.device))
            latent_dist = tokenizer.encode(frames, return_dict=False)[0]
            center = latent_dist.mean.float()
            center, upper = tokenizer.normalize(center), tokenizer.normalize(center + latent_dist.std.float())
            means.append(rearrange(center, "n c t h w -> t n h w c").cpu())
            stds.append(rearrange(upper - center, "n c t h w -> t n h w c").cpu())
            conditions.append(
                scene_conditioning(
                    folder.scene(index), frames_per_latent=tokenizer.frames_per_latent, max_agents=max_agents
                )
            )
        mean = torch.stack(means)
        state = dict(
            mean=mean,
            std=torch.stack(stds),
            mean_latents=mean[held_out:].mean(dim=0),
            conditioning={name: torch.cat([c[name] for c in conditions]) for name in conditions[0]},
        )
        save_checkpoint(cache, state | {"origin": origin})
        return cls(**state)
