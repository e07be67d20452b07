"""CLIP embeddings, of images in training and of words at inference, as a token (paper §2.2.3, CLIP Embedding).

The encoders are those of `transformers`, of any size: `CLIPVisionModelWithProjection` and
`CLIPTextModelWithProjection` with `CLIPTokenizer`. Both embeddings have length 1, so that one stands in for the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from gaia2.conditioning.embedding import EmbeddingCondition, EmbeddingEncoder
from gaia2.nn.embeddings import full_precision
from gaia2.scene import Scene

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the RGB values, 0 to 1, that CLIP was trained on."""


class ClipEncoder(EmbeddingEncoder):
    """Project CLIP embeddings, of images in training and of images or text at inference (paper §2.2.3).

    Args:
        dim: Channels of the token.
        embedding_dim: Width of CLIP's projected embeddings, 768 for ViT-L/14.

    Example:
        >>> ClipEncoder(dim=8, embedding_dim=768)(torch.randn(2, 768)).shape
        torch.Size([2, 1, 8])
    """

    key = "clip_embedding"


@dataclass(frozen=True)
class ClipCondition(EmbeddingCondition):
    """A CLIP embedding, of an image or of the scene's prompt."""

    name = "clip"
    key = "clip_embedding"
    aliases = ("prompt",)
    encoder = ClipEncoder

    def said_by(self, scene: Scene) -> Iterator[str]:
        """If there is an embedding, or a prompt to make one of."""
        if scene.prompt is not None or scene.clip_embedding is not None:
            yield self.name


@torch.no_grad()
def embed_images(
    frames: torch.Tensor, image_encoder: CLIPVisionModelWithProjection, *, batch_size: int = 64
) -> torch.Tensor:
    """Embed video frames with CLIP's image encoder.

    Frames are brought to the encoder's size as CLIP does it: the shorter side is scaled to it, the middle is kept. For
    one embedding a scene, take the mean over its frames and cameras.

    Args:
        frames: `(..., 3, hv, wv)`, uint8 or float in [-1, 1].
        image_encoder: A `CLIPVisionModelWithProjection`.
        batch_size: Frames at once.

    Returns:
        `(..., d)` of length 1, float32, where the encoder is.

    Raises:
        ValueError: If the frames are not RGB images, or none.

    Example:
        >>> from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
        >>> config = CLIPVisionConfig(
        ...     hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        ...     image_size=16, patch_size=8, projection_dim=6,
        ... )
        >>> embed_images(torch.zeros(2, 3, 32, 64), CLIPVisionModelWithProjection(config)).shape
        torch.Size([2, 6])
    """
    if frames.ndim < 3 or frames.shape[-3] != 3 or frames.numel() == 0:
        raise ValueError(
            f"frames: expected RGB images (..., 3, hv, wv), got {tuple(frames.shape)}; drop other channels"
        )
    size, place = image_encoder.config.image_size, next(image_encoder.parameters())
    embeddings = []
    for part in frames.reshape(-1, *frames.shape[-3:]).split(batch_size):
        pixels = clip_pixels(part.to(place.device), size)
        embeddings.append(image_encoder(pixel_values=pixels.to(place.dtype)).image_embeds.float())
    embedding = functional.normalize(torch.cat(embeddings), dim=-1)
    return embedding.reshape(*frames.shape[:-3], -1)


@torch.no_grad()
def embed_prompts(
    prompts: Sequence[str],
    text_encoder: CLIPTextModelWithProjection,
    tokenizer: Any,
    *,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Embed words with CLIP's text encoder.

    Args:
        prompts: What the scenes show; words beyond CLIP's context length are left out.
        text_encoder: A `CLIPTextModelWithProjection`.
        tokenizer: Its `CLIPTokenizer`.
        device: Where the encoder computes, if its parameters are offloaded; where they are by default.

    Returns:
        `(b, d)` of length 1, float32, where the encoder is.

    Raises:
        ValueError: If there is no prompt, or one string in place of a list.
    """
    if isinstance(prompts, str) or not prompts:
        raise ValueError(f"prompts: expected a list of at least one string, got {prompts!r}")
    length = text_encoder.config.max_position_embeddings
    tokens = tokenizer(list(prompts), padding=True, truncation=True, max_length=length, return_tensors="pt")
    device = next(text_encoder.parameters()).device if device is None else device
    return functional.normalize(text_encoder(**tokens.to(device)).text_embeds.float(), dim=-1)


def clip_pixels(frames: torch.Tensor, size: int) -> torch.Tensor:
    """Bring frames `(b, 3, hv, wv)`, uint8 or float in [-1, 1], to CLIP's `(b, 3, size, size)`."""
    values = frames.float() / 255 if frames.dtype == torch.uint8 else (full_precision(frames) + 1) / 2
    height, width = values.shape[-2:]
    scale = size / min(height, width)
    target = [max(size, int(side * scale)) for side in (height, width)]
    values = functional.interpolate(values, target, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = ((side - size) // 2 for side in target)
    mean, std = (values.new_tensor(v)[:, None, None] for v in (IMAGE_MEAN, IMAGE_STD))
    return (values[..., top : top + size, left : left + size] - mean) / std
