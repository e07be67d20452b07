"""Our models and their inputs at the sizes that the parts measure.

Axes: b batch, t latent time, n cameras, h w latent grid, c channels, k condition tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from gaia2.conditioning import scene_conditioning
from gaia2.models.world_model import WorldModel
from gaia2.nn.blocks import WorldModelBlock
from gaia2.scene import Agents, CameraRig, Scene, named_rig

AGENTS = 16
CONDITION_TOKENS = AGENTS + 13
"""Of a camera and time: 16 boxes, 11 metadata names, CLIP and scenario."""


@dataclass(frozen=True)
class Size:
    """Of a transformer and its tokens.

    Attributes:
        dim: Channels.
        heads: Attention heads.
        blocks: Transformer blocks.
        times: Latent times, t.
        cameras: Cameras, n.
        grid: Cells of a camera, h and w.
        channels: Channels of a latent.
    """

    dim: int = 512
    heads: int = 8
    blocks: int = 4
    times: int = 6
    cameras: int = 5
    grid: tuple[int, int] = (7, 15)
    channels: int = 64

    @property
    def tokens(self) -> int:
        """Of one sample."""
        return self.times * self.cameras * self.grid[0] * self.grid[1]

    def __str__(self) -> str:
        h, w = self.grid
        return f"width {self.dim}, {self.blocks} blocks, {self.times}x{self.cameras}x{h}x{w} tokens"


MINI = Size(dim=224, heads=7, blocks=6, times=3, grid=(4, 8))
PAPER_WIDTH = Size(dim=4096, heads=32, blocks=1, grid=(14, 30))
TINY = Size(dim=32, heads=2, blocks=1, times=2, cameras=2, grid=(2, 4))


def paper_width(device: str) -> Size:
    """The paper's block; on a CPU with a quarter of its tokens, as one pass would take half a minute."""
    return PAPER_WIDTH if device.startswith("cuda") else replace(PAPER_WIDTH, grid=(7, 15))


def world_model(size: Size, dtype: torch.dtype, device: str = "cpu") -> WorldModel:
    """A world model with random weights, ready to predict."""
    torch.manual_seed(0)
    model = WorldModel(
        latent_channels=size.channels, dim=size.dim, num_heads=size.heads, num_blocks=size.blocks,
        window_latents=size.times,
    )  # fmt: skip
    return model.to(device, dtype).eval()


def scene(size: Size) -> Scene:
    """All that a scene can say, for a window of the world model; 16 agents, as in training."""
    frames = 8 * size.times
    boxes = [[8.0 + 4 * i, 3.0 - i % 7, 0.8, 4.5, 1.9, 1.6, 0.1 * i] for i in range(AGENTS)]
    agents = Agents(boxes=[boxes] * frames, category=[[0] * AGENTS] * frames)
    return Scene.create(rig(size.cameras), frames, speed=8.0, curvature=0.01, weather="rain", agents=agents)


def rig(cameras: int) -> CameraRig:
    """Some cameras, those of a car round and round."""
    whole = named_rig("surround")
    chosen = [number % whole.num_cameras for number in range(cameras)]
    return CameraRig(
        names=[f"camera {number}" for number in range(cameras)],
        image_size=whole.image_size[chosen],
        intrinsics=whole.intrinsics[chosen],
        extrinsics=whole.extrinsics[chosen],
    )


def conditioning(size: Size, device: str = "cpu") -> dict[str, torch.Tensor]:
    """The tensors of that scene."""
    return scene_conditioning([scene(size)], device=device)


def latents(size: Size, dtype: torch.dtype, device: str = "cpu", batch: int = 1) -> torch.Tensor:
    """Noise `(b, t, n, h, w, c)`."""
    return torch.randn(batch, size.times, size.cameras, *size.grid, size.channels, device=device).to(dtype)


def block(size: Size, dtype: torch.dtype, device: str = "cpu") -> WorldModelBlock:
    """One block of the world model."""
    torch.manual_seed(0)
    return WorldModelBlock(dim=size.dim, num_heads=size.heads).to(device, dtype)


def block_inputs(size: Size, dtype: torch.dtype, device: str = "cpu") -> tuple[torch.Tensor, ...]:
    """Tokens, positions, modulation and condition tokens of a block."""
    t, n, (h, w), c = size.times, size.cameras, size.grid, size.dim
    shapes = ((1, t, n, h, w, c), (1, t, n, h, w, c), (1, t, c), (1, t, n, CONDITION_TOKENS, c))
    return tuple(torch.randn(shape, device=device).to(dtype) for shape in shapes)
