"""Output that is not finite is refused, and its likely cause named."""

from __future__ import annotations

import pytest
import torch

from gaia2.pipelines.finite import check_finite
from tests.pipelines.helpers import pipeline, scene


def test_weights_that_are_not_finite() -> None:
    pipe = pipeline()
    with torch.no_grad():
        pipe.transformer.proj_out.bias.fill_(torch.nan)
    message = (
        r"latents: expected finite numbers, got NaN or infinity in 100% of them; the weights of the transformer are"
    )
    with pytest.raises(ValueError, match=message):
        pipe(scene(8, "front"), num_inference_steps=1)
    with pytest.raises(ValueError, match=r"the weights of the transformer are not finite"):
        list(pipe.stream(scene(8, "front"), num_inference_steps=1))


def test_weights_of_the_tokenizer() -> None:
    pipe = pipeline()
    with torch.no_grad():
        next(pipe.vae.decoder.last_upsample.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match=r"frames: expected finite numbers.*the weights of the vae are not finite"):
        pipe(scene(8, "front"), num_inference_steps=1)


def test_latents_of_a_callback() -> None:
    def spoil(pipe: object, step: int, tau: object, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"latents": tensors["latents"] * torch.inf}

    with pytest.raises(ValueError, match=r"latents: expected finite numbers.*that a callback made"):
        pipeline()(scene(8, "front"), num_inference_steps=1, callback_on_step_end=spoil)


def test_a_scale_far_too_large() -> None:
    with pytest.raises(ValueError, match="guidance_scale=900 is far beyond the usual 2 to 20"):
        check_finite("latents", torch.tensor([1.0, torch.nan]), pipeline(), guidance_scale=900.0)


def test_finite_numbers_pass() -> None:
    check_finite("latents", torch.tensor([1.0, 2.0]), None)
