"""The options of the training of the world model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from gaia2.data.balancing import parse_features
from gaia2.training.optimizers import OptimizerName
from gaia2.training.plan import PlannedOptions


@dataclass(frozen=True, kw_only=True)
class WorldModelRecipe(PlannedOptions):
    """How to train the world model; the defaults suit the mini preset on a CPU."""

    PAPER: ClassVar[dict[str, Any]] = dict(
        steps=460_000,
        batch_size=256,
        optimizer="adamw",
        learning_rate=5e-5,
        final_learning_rate=6.5e-6,
        cooldown_steps=None,
        warmup_steps=2_500,
        weight_decay=0.1,
        max_grad_norm=1.0,
        ema_decay=0.9999,
        condition_dropout=0.8,
        all_dropout=0.1,
        camera_dropout=0.1,
        lone_camera_share=0.0,
        agent_feature_dropout=0.3,
        cameras=(),
        weighted=False,
        hidden_maps=0.0,
        maps=False,
        near_noise_share=0.2,
        context_noise=0.0,
        context_share=0.2,
        inpainting_share=0.1,
        validation_clips=1024,
        validate_every=5_000,
        save_every=1_000,
        workers=8,
        activation_checkpointing="full",
    )
    REQUIRED: ClassVar[tuple[str, ...]] = ("tokenizer", "out")
    FREE: ClassVar[tuple[str, ...]] = (*PlannedOptions.FREE, "videos_every", "validate_first")

    tokenizer: Path
    """Folder of the trained tokenizer."""
    data: Path | None = None
    """Folder of clips, or of clip shards, to encode first; without it and `latents`, clips of the procedural world are
    rendered while the training goes on."""
    latents: Path | None = None
    """Folder of latent shards that encode_latents.py has made with the same tokenizer."""
    balanced: tuple[str, ...] = ()
    """Features whose joint distribution over the clips of `data` or `latents` is evened out (paper §3), for example
    `weather time_of_day speed:0,5,15`, numbers with the borders of their intervals; see `gaia2 data inspect`."""
    encode_first: bool = True
    """Encode the clips of `data` once, before the first step, into the folder of the run. Otherwise each window is
    encoded whenever a step draws it, and nothing more lies on disk; `workers` are then threads, and `data` clip shards.
    """
    image_encoder: str | None = None
    """Folder or hub id of a CLIP image encoder; with it the frames of `data` are the CLIP conditions."""
    start_from: Path | None = None
    """Folder of a trained world model to begin with, in place of random weights; its size takes precedence."""
    steps: int = 3000
    """Optimiser steps (paper: 460,000)."""
    batch_size: int = 16
    """Clips a step, over all ranks together (paper: 256)."""
    optimizer: OptimizerName = "adamw"
    """AdamW as in the paper (paper: adamw), or Muon for the weight matrices, which learns more in few steps."""
    learning_rate: float = 1e-3
    """Rate of AdamW after the warm-up (paper: 5e-05)."""
    matrix_learning_rate: float = 1e-2
    """Rate of Muon after the warm-up."""
    final_learning_rate: float = 2e-5
    """Rate of AdamW at the end (paper: 6.5e-06); Muon's falls by the same factor."""
    cooldown_steps: int | None = None
    """Steps at the end in which the rates fall, after a flat stretch that can be made longer on a resume; None is a
    cosine over all steps (paper: None)."""
    warmup_steps: int = 150
    """Steps of linear rise (paper: 2,500)."""
    ema_decay: float = 0.998
    """Decay of the averaged weights (paper: 0.9999)."""
    condition_dropout: float = 0.8
    """Probability that a condition is dropped, each alone (paper: 0.8)."""
    all_dropout: float = 0.1
    """Probability that all are dropped (paper: 0.1)."""
    camera_dropout: float = 0.1
    """Probability that a camera view is dropped (paper: 0.1)."""
    lone_camera_share: float = 0.0
    """Share of samples that keep one camera only, for rigs of a single camera (paper: 0.0)."""
    agent_feature_dropout: float = 0.3
    """Probability that one of the 13 features of the agents is dropped (paper: 0.3)."""
    cameras: tuple[int, ...] = ()
    """Numbers of cameras that steps choose from; each sample then keeps a random subset of its cameras, and the step
    has more samples in return. Empty keeps all (paper: none given)."""
    weighted: bool = False
    """Let cells with agents, lights, crossings, lane marks count up to 4 times; rendered clips only (paper: False)."""
    hidden_maps: float = 0.0
    """Weight of aligning hidden states with maps of classes and depth; rendered clips only (paper: 0.0). With
    `start_from`, the head that predicts these begins as the best one for the weights as they are."""
    maps: bool = False
    """Tell cells where they look and which agents they hold, which the paper's learns by itself (paper: False); the
    mini preset does so anyway."""
    near_noise_share: float = 0.2
    """Share of flow times near noise, where the layout is decided (paper: 0.2)."""
    context_noise: float = 0.0
    """Given latents of a context are mixed with noise up to this share (paper: 0.0)."""
    scenario_encoder: Path | None = None
    """Folder of a trained `BehaviourEncoder`: some samples then have its embedding of their scene in place of speed,
    curvature, agents and road, the others have none; rendered clips only. None leaves scenario embeddings out."""
    scenario_share: float = 0.1
    """Share of these samples; used with `scenario_encoder` only."""
    context_share: float = 0.2
    """Share of samples that predict from context (paper: 0.2)."""
    inpainting_share: float = 0.1
    """Share of samples that fill a hole (paper: 0.1)."""
    validation_clips: int = 64
    """Clips at the beginning of the data that are never trained on; of rendered clips, a multiple of 64 (paper: 1,024).
    """
    validate_first: bool = False
    """Validate before the first step, too."""
    videos_every: int | None = None
    """Steps between sample videos of held-out scenes; none by default."""
    shards: int = 200
    """Shards of 64 rendered clips, and their mirror images, that there are at most."""
    first_shards: int = 9
    """Shards that there are before the first step."""
    steps_per_shard: int = 120
    """Steps between one new shard and the next."""
    compile_renderer: bool = False
    """Compile the renderer with torch.compile; needs a C++ compiler."""
    rays: int = 2
    """Rays of a rendered pixel."""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.data is not None or self.latents is not None
        if given and (self.weighted or self.hidden_maps):
            raise ValueError("weighted, hidden_maps: expected rendered clips, whose classes are known; leave out data")
        if self.data is not None and self.latents is not None:
            raise ValueError("data, latents: expected one of them, got both; latents need no clips")
        if not self.encode_first and (self.data is None or self.image_encoder is not None):
            raise ValueError("encode_first: expected true without data, and with image_encoder; leave it out")
        if given and self.scenario_encoder is not None:
            raise ValueError(
                "scenario_encoder: expected rendered clips; put the embeddings into the scenes of your data"
            )
        if self.balanced and not given:
            raise ValueError("balanced: expected data or latents; rendered clips are drawn evenly as they are")
        parse_features(self.balanced)
        if self.hidden_maps and self.context_ranks > 1:
            raise ValueError("context_ranks: expected 1 with hidden_maps, whose maps are not divided; leave one out")
