from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoModel
from torch import nn
from torch.nn.utils import parametrize

from gaia2.models.video_discriminator import VideoDiscriminator


def discriminator(seed: int = 0, **changes: Any) -> VideoDiscriminator:
    torch.manual_seed(seed)
    return VideoDiscriminator(**{"base_channels": 4, "channel_multipliers": (2, 4)} | changes)


def video(b: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand(b, 3, 8, 16, 24, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_paper_has_the_papers_blocks_and_runs_on_its_crops() -> None:
    with torch.device("meta"):
        model = VideoDiscriminator()
        assert model(torch.zeros(1, 3, 24, 448, 960)).logits.shape == (1, 1, 2, 28, 60)
    assert [block.conv_out.out_channels for block in model.blocks] == [128, 256, 512, 512]
    assert model.conv_in.out_channels == 64
    for block in model.blocks:
        assert block.downsample.stride == (2, 2, 2)
        assert isinstance(block.norm_in, nn.InstanceNorm3d)
        assert block.activation.negative_slope == 0.2
    widths = [64, 128, 256, 512, 512]
    blocks = sum(27 * i * i + 28 * i * o for i, o in pairwise(widths))
    assert model.num_parameters() == 27 * 3 * 64 + 64 + blocks + 27 * 512 + 1


def test_every_convolution_has_spectral_norm() -> None:
    model = discriminator().eval()
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv3d)]
    assert len(convolutions) == 1 + 2 * 3 + 1
    for conv in convolutions:
        assert parametrize.is_parametrized(conv, "weight")
        assert float(torch.linalg.matrix_norm(conv.weight.flatten(1).detach(), 2)) == pytest.approx(1, abs=0.05)


def test_mini_frames_with_the_papers_blocks() -> None:
    model = VideoDiscriminator(base_channels=4)
    logits = model(torch.zeros(1, 3, 24, 64, 128), return_dict=False)[0]
    assert logits.shape == (1, 1, 2, 4, 8)


def test_samples_do_not_see_one_another_but_all_their_pixels_count() -> None:
    model = discriminator().eval()
    frames = video(b=2).requires_grad_()
    logits = model(frames).logits
    torch.testing.assert_close(logits[:1], model(frames[:1]).logits, atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(logits[0].square().sum(), frames)
    assert (gradient[0] != 0).all()
    assert (gradient[1] == 0).all()


def test_learns_to_tell_sharp_from_blurred() -> None:
    model = discriminator()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def loss(seed: int) -> torch.Tensor:
        sharp = video(b=2, seed=seed)
        blurred = nn.functional.avg_pool3d(sharp, (1, 3, 3), stride=1, padding=(0, 1, 1)) * 3
        logits = model(torch.cat([sharp, blurred])).logits
        return nn.functional.softplus(torch.cat([-logits[:2], logits[2:]])).mean()

    for step in range(40):
        loss(step).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss(1000).item() < 0.4  # undecided is log 2 = 0.69


@pytest.mark.parametrize("calls", [1, 2])
def test_gradient_checkpointing_changes_nothing(calls: int) -> None:
    """Also where the spectral norm has moved on before the backward."""
    results = []
    for enabled in (False, True):
        model = discriminator()
        if enabled:
            model.enable_gradient_checkpointing()
            assert model.gradient_checkpointing
        losses = [model(video(seed=i)).logits.square().mean() for i in range(calls)]
        torch.stack(losses).sum().backward()
        results.append(({name: p.grad for name, p in model.named_parameters()}, model.state_dict()))
    (grads, state), (checkpointed_grads, checkpointed_state) = results
    assert grads.keys() == checkpointed_grads.keys()
    for name, gradient in grads.items():
        assert gradient.abs().max() > 0
        assert torch.equal(gradient, checkpointed_grads[name]), name
    for name, value in state.items():
        assert torch.equal(value, checkpointed_state[name]), name


def test_gradient_checkpointing_allows_a_gradient_penalty() -> None:
    results = []
    for enabled in (False, True):
        model = discriminator()
        if enabled:
            model.enable_gradient_checkpointing()
        frames = video().requires_grad_()
        (slope,) = torch.autograd.grad(model(frames).logits.sum(), frames, create_graph=True)
        slope.square().sum().backward()
        results.append([p.grad for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(results[0], results[1])


def test_bfloat16_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        logits = discriminator()(video()).logits
    logits.square().mean().backward()
    assert logits.isfinite().all()


def test_goes_to_disk_and_back_with_its_spectral_norms(tmp_path: Path) -> None:
    model = discriminator()
    model(video())  # moves the estimates
    model.eval().save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(str(tmp_path))
    assert type(loaded) is VideoDiscriminator
    assert loaded.config.channel_multipliers == [2, 4]
    state = model.state_dict()
    assert sum(name.endswith(("_u", "_v")) for name in state) == 2 * 8
    assert state.keys() == loaded.state_dict().keys()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, state[name]), name
    torch.testing.assert_close(loaded(video()).logits, model(video()).logits)


@pytest.mark.parametrize("device_map", [{"": "disk"}, {"conv_in": "cpu", "blocks": "disk", "conv_out": "cpu"}])
def test_weights_may_stay_on_disk(tmp_path: Path, device_map: dict[str, str]) -> None:
    model = discriminator()
    model(video())
    model.eval().save_pretrained(tmp_path)
    loaded = VideoDiscriminator.from_pretrained(tmp_path, device_map=device_map, offload_folder=tmp_path / "away")
    assert loaded.blocks[0].conv_in.parametrizations.weight.original.is_meta
    torch.testing.assert_close(loaded.eval()(video()).logits, model(video()).logits)


def test_casting_to_8_bits_leaves_the_spectral_norms_and_the_gradients_alone() -> None:
    results = []
    for cast in (False, True):
        model = discriminator()
        if cast:
            model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
        logits = model(video()).logits
        logits.square().mean().backward()
        results.append([logits, *(parameter.grad for parameter in model.parameters())])
    torch.testing.assert_close(results[1], results[0])


def test_training_goes_on_from_its_state_bit_by_bit() -> None:
    one, other = discriminator(seed=0), discriminator(seed=1)
    one(video())
    other.load_state_dict(one.state_dict())
    for seed in range(2):
        assert torch.equal(one(video(seed=seed)).logits, other(video(seed=seed)).logits)


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((1, 4, 8, 16, 16), r"sample: expected \(b, c=3, tv, hv, wv\), got \(1, 4, 8, 16, 16\); give one camera"),
        ((3, 8, 16, 16), r"sample: expected \(b, c=3, tv, hv, wv\), got \(3, 8, 16, 16\)"),
        (
            (1, 3, 4, 3, 4),
            r"sample: expected \(tv, hv, wv\) larger than \(4, 4, 4\) along one axis at least, got \(4, 3, 4\); give l",
        ),
    ],
)
def test_bad_frames(shape: tuple[int, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        discriminator()(torch.zeros(shape))


def test_the_smallest_frames() -> None:
    assert discriminator()(torch.zeros(1, 3, 1, 1, 5)).logits.shape == (1, 1, 1, 1, 2)


@pytest.mark.parametrize(
    "changes", [{"channel_multipliers": ()}, {"channel_multipliers": (2, 0)}, {"base_channels": 0}]
)
def test_bad_configuration(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(channel_multipliers|base_channels): expected"):
        discriminator(**changes)
