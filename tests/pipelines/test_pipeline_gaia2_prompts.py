"""Prompts, which a text encoder makes embeddings of, and embeddings that need none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import BatchEncoding, CLIPTextConfig, CLIPTextModelWithProjection

from tests.pipelines.helpers import Spy, latents_of, pipeline, scene
from tests.tiny import CLIP_DIM, SCENARIO_DIM


class Words:
    """Stands in for CLIP's tokenizer: a letter is a token."""

    def __call__(
        self, prompts: list[str], padding: bool, truncation: bool, max_length: int, return_tensors: str
    ) -> BatchEncoding:
        assert max_length == 32
        width = max(len(prompt) for prompt in prompts) + 1
        ids = [[ord(letter) % 97 for letter in prompt] + [99] * (width - len(prompt)) for prompt in prompts]
        mask = [[1] * (len(prompt) + 1) + [0] * (width - len(prompt) - 1) for prompt in prompts]
        return BatchEncoding({"input_ids": ids, "attention_mask": mask}, tensor_type=return_tensors)


@pytest.fixture(scope="module")
def text_encoder() -> CLIPTextModelWithProjection:
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=100,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=CLIP_DIM,
        eos_token_id=99,
        max_position_embeddings=32,
    )
    return CLIPTextModelWithProjection(config).eval()


def test_prompts(text_encoder: CLIPTextModelWithProjection, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline()
    pipe.text_encoder, pipe.tokenizer = text_encoder, Words()
    spy = Spy(pipe, monkeypatch)
    scenes = [scene(8, "front", prompt=prompt) for prompt in ("a tram", None, "a wet street")]
    own = np.arange(CLIP_DIM, dtype=float)
    scenes.append(scene(8, "front", prompt="not used").replace(clip_embedding=own))
    latents_of(pipe, scenes)
    got = spy.conditioning[0]["clip_embedding"]
    for row, prompt in ((0, "a tram"), (2, "a wet street")):
        with torch.no_grad():
            expected = text_encoder(**Words()([prompt], True, True, 32, "pt")).text_embeds[0]
            expected = expected / expected.norm()
        torch.testing.assert_close(got[row], expected, atol=1e-5, rtol=0)
    assert got[1].isnan().all()
    assert got[3].tolist() == own.tolist()
    assert (got[0] - got[2]).abs().max() > 1e-3


def test_embeddings_need_no_text_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline()
    spy = Spy(pipe, monkeypatch)
    given = scene(8, "front", prompt="a tram").replace(
        clip_embedding=np.ones(CLIP_DIM), scenario_embedding=np.ones(SCENARIO_DIM)
    )
    latents_of(pipe, given)
    assert spy.conditioning[0]["clip_embedding"].tolist() == [[1.0] * CLIP_DIM]
