from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from gaia2.conditioning.clip_embedding import IMAGE_MEAN, IMAGE_STD, clip_pixels, embed_images, embed_prompts
from gaia2.conditioning.collate import scene_conditioning
from gaia2.scene import Scene
from tests.tiny import world_model

WIDTH = 6  # the tiny world model's clip_dim


@pytest.fixture(scope="module")
def image_encoder() -> CLIPVisionModelWithProjection:
    torch.manual_seed(0)
    sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    config = CLIPVisionConfig(image_size=16, patch_size=8, projection_dim=WIDTH, **sizes)
    return CLIPVisionModelWithProjection(config).eval()


@pytest.fixture(scope="module")
def text_encoder() -> CLIPTextModelWithProjection:
    torch.manual_seed(0)
    sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    config = CLIPTextConfig(
        vocab_size=20, max_position_embeddings=5, projection_dim=WIDTH, bos_token_id=0, eos_token_id=1, **sizes
    )
    return CLIPTextModelWithProjection(config).eval()


class Words(dict):
    def to(self, device: Any) -> Words:
        return Words({key: value.to(device) for key, value in self.items()})


def tokenizer(prompts: list[str], *, max_length: int, **_: Any) -> Words:
    """A token a letter, as CLIPTokenizer would be called."""
    rows = [[0, *(2 + ord(letter) % 18 for letter in prompt[: max_length - 2]), 1] for prompt in prompts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [1] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return Words(input_ids=ids, attention_mask=mask)


def test_the_numbers_are_clips() -> None:
    assert tuple(OPENAI_CLIP_MEAN) == IMAGE_MEAN
    assert tuple(OPENAI_CLIP_STD) == IMAGE_STD


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (16, 16), (224, 300)])
def test_pixels_are_those_of_clips_preprocessing(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (shape[0] // 8 + 1, shape[1] // 8 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize(shape[::-1], Image.Resampling.BICUBIC)
    scale = 16 / min(shape)
    scaled = image.resize((max(16, int(shape[1] * scale)), max(16, int(shape[0] * scale))), Image.Resampling.BICUBIC)
    left, top = (scaled.width - 16) // 2, (scaled.height - 16) // 2
    values = np.asarray(scaled.crop((left, top, left + 16, top + 16))) / 255.0
    expected = ((values - OPENAI_CLIP_MEAN) / OPENAI_CLIP_STD).transpose(2, 0, 1)
    frames = torch.tensor(np.asarray(image)).permute(2, 0, 1)[None]
    np.testing.assert_allclose(clip_pixels(frames, 16)[0], expected, atol=1.5 / 255 / min(OPENAI_CLIP_STD))
    np.testing.assert_allclose(clip_pixels(frames / 127.5 - 1, 16), clip_pixels(frames, 16), atol=1e-5)


def test_images_of_any_layout(image_encoder: CLIPVisionModelWithProjection) -> None:
    frames = torch.randint(0, 256, (2, 3, 4, 3, 20, 40), dtype=torch.uint8)
    embeddings = embed_images(frames, image_encoder, batch_size=5)
    assert embeddings.shape == (2, 3, 4, WIDTH)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2, 3, 4))
    alone = image_encoder(pixel_values=clip_pixels(frames[1, 2, 3][None], 16)).image_embeds[0]
    torch.testing.assert_close(embeddings[1, 2, 3], alone / alone.norm(), atol=1e-5, rtol=0)


def test_prompts(text_encoder: CLIPTextModelWithProjection) -> None:
    embeddings = embed_prompts(["fog", "a street in the rain"], text_encoder, tokenizer)
    assert embeddings.shape == (2, WIDTH)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(embed_prompts(["fog"], text_encoder, tokenizer)[0], embeddings[0], atol=1e-5, rtol=0)


def test_either_embedding_conditions_the_world_model(
    image_encoder: CLIPVisionModelWithProjection, text_encoder: CLIPTextModelWithProjection
) -> None:
    frames = torch.randint(0, 256, (8, 1, 3, 20, 40), dtype=torch.uint8)
    image = embed_images(frames, image_encoder).mean(dim=(0, 1))
    text = embed_prompts(["fog"], text_encoder, tokenizer)[0]
    model, latents, outputs = world_model(), torch.randn(1, 1, 1, 2, 4, 4), []
    for embedding in (image, text):
        scene = Scene.create("front", num_frames=8).replace(clip_embedding=embedding.numpy())
        given = scene_conditioning(scene)
        assert given["clip_embedding"].shape == (1, WIDTH)
        outputs.append(model(latents, torch.zeros(1), given).sample)
    assert (outputs[0] - outputs[1]).abs().max() > 1e-4


def test_bad_input(image_encoder: CLIPVisionModelWithProjection, text_encoder: CLIPTextModelWithProjection) -> None:
    with pytest.raises(ValueError, match=r"frames: expected RGB images \(..., 3, hv, wv\), got \(2, 20, 40, 3\)"):
        embed_images(torch.zeros(2, 20, 40, 3), image_encoder)
    with pytest.raises(ValueError, match=r"frames: expected RGB images .* got \(0, 3, 20, 40\)"):
        embed_images(torch.zeros(0, 3, 20, 40), image_encoder)
    for prompts in ("fog", []):
        with pytest.raises(ValueError, match="prompts: expected a list of at least one string"):
            embed_prompts(prompts, text_encoder, tokenizer)
