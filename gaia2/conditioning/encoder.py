"""All condition encoders together: from the conditioning tensors to what the world model's blocks take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import nn

from gaia2.conditioning.action import ActionEncoder
from gaia2.conditioning.agent_map import AgentMapEncoder
from gaia2.conditioning.agents import AgentEncoder
from gaia2.conditioning.camera import CameraEncoder
from gaia2.conditioning.checks import check_axes_of, check_conditioning, check_values
from gaia2.conditioning.dropout import blank_cameras
from gaia2.conditioning.external import ClipEncoder, ScenarioEncoder
from gaia2.conditioning.metadata import MetadataEncoder, Vocabulary
from gaia2.conditioning.ray_map import RayMapEncoder
from gaia2.conditioning.timestamp import TimestampEncoder
from gaia2.scene import METADATA

__all__ = ["ConditioningEncoder", "EncodedConditioning", "check_conditioning"]


class EncodedConditioning(NamedTuple):
    """What the world model's blocks take.

    Attributes:
        action: `(b, t, c)`, for the adaptive layer norm.
        position: `(b, t, n, h, w, c)`, camera geometry and timestamp, added to the tokens; h = w = 1 unless there are
            maps, which tell cells apart.
        tokens: `(b, t, n, k, c)`, for cross-attention: the boxes of that camera and time, then the global tokens
            (metadata, CLIP, scenario), the same for every camera and time.
        mask: `(b, t, n, k)` bool, true where a token may be attended to; the global tokens always.
    """

    action: torch.Tensor
    position: torch.Tensor
    tokens: torch.Tensor
    mask: torch.Tensor


class ConditioningEncoder(nn.Module):
    """Embed every condition (paper §2.2.1 and §2.2.3).

    Action goes to the adaptive layer norm, camera geometry and timestamp are added to the tokens, everything else
    becomes tokens for cross-attention.

    Args:
        dim: Channels, the paper's C.
        vocabulary: Metadata names and their allowed values, or how many there are; the library's own by default.
        clip_dim: Width of CLIP embeddings.
        scenario_dim: Width of scenario embeddings.
        num_categories: Number of agent categories.
        max_seconds: Seconds from the present that map to 1.
        ray_map: Whether cells know where they look, see `RayMapEncoder`; not of the paper.
        agent_map: Whether cells know which agents they hold, see `AgentMapEncoder`; not of the paper.

    Example:
        >>> encoder = ConditioningEncoder(dim=8)
        >>> encoded = encoder(
        ...     {
        ...         "timestamps": torch.zeros(1, 3, 5),
        ...         "intrinsics": torch.tensor([0.75, 1.5, 0.5, 0.5]).expand(1, 5, 4),
        ...         "extrinsics": torch.eye(4).expand(1, 5, 4, 4),
        ...         "speed": torch.full((1, 3), 12.0),
        ...     }
        ... )
        >>> encoded.action.shape, encoded.tokens.shape  # 11 metadata tokens, CLIP, scenario
        (torch.Size([1, 3, 8]), torch.Size([1, 3, 5, 13, 8]))
    """

    def __init__(
        self,
        *,
        dim: int,
        vocabulary: Vocabulary = METADATA,
        clip_dim: int = 768,
        scenario_dim: int = 512,
        num_categories: int = 7,
        max_seconds: float = 2.4,
        ray_map: bool = False,
        agent_map: bool = False,
    ) -> None:
        super().__init__()
        self.num_categories = num_categories
        self.action = ActionEncoder(dim=dim)
        self.camera = CameraEncoder(dim=dim)
        self.timestamp = TimestampEncoder(dim=dim, max_seconds=max_seconds)
        self.agents = AgentEncoder(dim=dim, num_categories=num_categories)
        self.metadata = MetadataEncoder(dim=dim, vocabulary=vocabulary)
        self.clip = ClipEncoder(dim=dim, embedding_dim=clip_dim)
        self.scenario = ScenarioEncoder(dim=dim, embedding_dim=scenario_dim)
        self.ray_map = RayMapEncoder(dim=dim) if ray_map else None
        self.agent_map = AgentMapEncoder(dim=dim, num_categories=num_categories) if agent_map else None

    def forward(
        self,
        conditioning: Mapping[str, torch.Tensor],
        camera_mask: torch.Tensor | None = None,
        grid: tuple[int, int] | None = None,
    ) -> EncodedConditioning:
        """Embed a conditioning.

        Axes are always checked. Values are checked here only on the CPU outside of `torch.compile`, where that costs
        next to nothing; `check_conditioning` checks them anywhere, and more of them.

        Args:
            conditioning: Tensors by name, as `scene_conditioning` makes them. A key left out is absent; only
                `timestamps`, `intrinsics` and `extrinsics` must be there, and a missing distortion is none.

                - `timestamps (b, t, n)` seconds relative to the present
                - `intrinsics (b, n, 4)` fx / w, fy / h, cx / w, cy / h
                - `extrinsics (b, n, 4, 4)` camera to ego, metres
                - `distortion (b, n, 8)` and `distortion_model (b, n)`, see `CameraEncoder`
                - `speed (b, t)` m/s and `curvature (b, t)` 1/m; NaN where absent
                - `agents (b, t, n, m, 13)`, see `AgentEncoder`
                - `metadata (b, k)` ids in the order of the vocabulary; -1 where absent
                - `clip_embedding (b, d)` and `scenario_embedding (b, d)`; all NaN where absent
            camera_mask: Boolean `(b, n)`, true for cameras that take part; what the others hold is not looked at.
            grid: Rows and columns h, w of the latents; needed for maps only.

        Returns:
            Action, position, tokens and mask.

        Raises:
            ValueError: If a key is missing or unknown, axes do not fit, or a value is out of range; the message names
                the key, what was expected and what came.
        """
        sizes = check_axes_of(
            conditioning,
            num_metadata=len(self.metadata.sizes),
            clip_dim=self.clip.embedding_dim,
            scenario_dim=self.scenario.embedding_dim,
        )
        if camera_mask is not None:
            conditioning = blank_cameras(dict(conditioning), camera_mask)
        timestamps = conditioning["timestamps"]
        if timestamps.device.type == "cpu" and not torch.compiler.is_compiling():
            check_values(conditioning, vocabulary_sizes=self.metadata.sizes, num_categories=self.num_categories)
        given = self._absent(timestamps, **sizes) | dict(conditioning)

        action = self.action(given["speed"], given["curvature"])
        camera = self.camera(
            given["intrinsics"], given["extrinsics"], given.get("distortion"), given.get("distortion_model")
        )
        position = rearrange(camera, "b n c -> b 1 n c") + self.timestamp(timestamps)
        position = self._on_cells(rearrange(position, "b t n c -> b t n 1 1 c"), given, grid)
        shared = torch.cat(
            [
                self.metadata(given["metadata"]),
                self.clip(given["clip_embedding"]),
                self.scenario(given["scenario_embedding"]),
            ],
            dim=1,
        )
        tokens = repeat(shared, "b k c -> b t n k c", t=sizes["t"], n=sizes["n"])
        mask = torch.ones(tokens.shape[:-1], dtype=torch.bool, device=tokens.device)
        if "agents" in given:
            boxes, there = self.agents(given["agents"])
            tokens, mask = torch.cat([boxes, tokens], dim=3), torch.cat([there, mask], dim=3)
        return EncodedConditioning(action, position, tokens, mask)

    def _on_cells(
        self, position: torch.Tensor, given: Mapping[str, torch.Tensor], grid: tuple[int, int] | None
    ) -> torch.Tensor:
        """Add to positions `(b, t, n, 1, 1, c)` what the maps know of each cell."""
        if self.ray_map is not None:
            geometry = (given.get(key) for key in ("intrinsics", "extrinsics", "distortion", "distortion_model"))
            position = position + rearrange(self.ray_map(*geometry, grid=_needed(grid)), "b n h w c -> b 1 n h w c")
        if self.agent_map is not None and "agents" in given:
            position = position + self.agent_map(given["agents"], grid=_needed(grid))
        return position

    def _absent(self, like: torch.Tensor, b: int, t: int, n: int) -> dict[str, torch.Tensor]:
        """Absent values for the conditions that have a learned null."""
        return {
            "speed": like.new_full((b, t), torch.nan),
            "curvature": like.new_full((b, t), torch.nan),
            "metadata": torch.full((b, len(self.metadata.sizes)), -1, dtype=torch.int64, device=like.device),
            "clip_embedding": like.new_full((b, self.clip.embedding_dim), torch.nan),
            "scenario_embedding": like.new_full((b, self.scenario.embedding_dim), torch.nan),
        }


def _needed(grid: tuple[int, int] | None) -> tuple[int, int]:
    if grid is None:
        raise ValueError("grid: expected rows and columns of the latents, since this model has maps, got None")
    return grid
