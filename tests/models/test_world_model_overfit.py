"""A tiny world model learns one clip by heart, and sampling gives the clip back."""

from __future__ import annotations

import pytest
import torch

from gaia2.losses.flow_matching import flow_matching_loss
from gaia2.models.world_model import WorldModel
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.schedulers.path import interpolate, velocity
from gaia2.schedulers.time_sampling import BimodalLogitNormal
from tests.tiny import CLIP_DIM, SCENARIO_DIM, conditioning

T, N, H, W, C = 2, 2, 2, 3, 4
STEPS, BATCH = 300, 8


@pytest.mark.slow
def test_overfits_one_clip() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = WorldModel(
        latent_channels=C, dim=48, num_heads=4, num_blocks=2, clip_dim=CLIP_DIM, scenario_dim=SCENARIO_DIM
    )
    clip = torch.randn(1, T, N, H, W, C, generator=generator)
    given = {k: v.float() if v.is_floating_point() else v for k, v in conditioning(1, T, N).items()}
    batch = {key: value.expand(BATCH, *value.shape[1:]) for key, value in given.items()}
    x = clip.expand(BATCH, *clip.shape[1:])

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=STEPS, pct_start=0.1)
    losses = torch.zeros(STEPS)
    for step in range(STEPS):
        tau = BimodalLogitNormal().sample(BATCH, generator=generator)
        eps = torch.randn(x.shape, generator=generator)
        loss = flow_matching_loss(model(interpolate(x, eps, tau), tau, batch).sample, velocity(x, eps))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses[step] = loss.detach()
    assert losses[:5].mean() == pytest.approx(2.0, abs=0.3)  # data and noise of variance 1
    assert losses[-30:].mean() < 0.15 * losses[:5].mean()

    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(20)
    latents = torch.randn(clip.shape, generator=generator)
    assert torch.cosine_similarity(latents.flatten(), clip.flatten(), dim=0).abs() < 0.5
    with torch.no_grad():
        for tau in scheduler.timesteps:
            predicted = model(latents, tau.float().expand(1), given).sample
            latents = scheduler.step(predicted, tau, latents, return_dict=False)[0]
    assert torch.cosine_similarity(latents.flatten(), clip.flatten(), dim=0) >= 0.9
