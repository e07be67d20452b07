from __future__ import annotations

from pathlib import Path

import pytest
import torch
from einops import rearrange

from gaia2.models import presets
from gaia2.models.video_tokenizer import VideoTokenizer
from tests.tiny import TOKENIZER, tokenizer


def video(b: int = 1, tv: int = 24, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(b, 3, tv, 32, 64, generator=generator) * 2 - 1


def latents(b: int = 1, t: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(b, 4, t, 2, 4, generator=torch.Generator().manual_seed(seed))


def millions(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def test_paper_has_the_papers_size_and_shapes() -> None:
    with torch.device("meta"):
        model = VideoTokenizer(**presets.paper().tokenizer)
        frames = torch.zeros(1, 3, 24, 448, 960)
    assert millions(model.encoder) == pytest.approx(85, rel=0.03)
    assert millions(model.decoder) == pytest.approx(200, rel=0.03)
    moments = model.encoder(frames)
    assert moments.shape == (1, 2 * 64, 3, 14, 30)
    assert model.decode(moments[:, :64]).sample.shape == (1, 3, 24, 448, 960)
    assert model.frames_per_latent == model.decoded_frames_per_latent == 8
    assert (model.config.latents_mean, model.config.latents_std) == (0.0, 0.32)


@pytest.mark.parametrize(("preset", "fold"), [(presets.paper(), 384), (presets.mini(), 256)])
def test_compresses_exactly(preset: presets.Preset, fold: int) -> None:
    with torch.device("meta"):
        model = VideoTokenizer(**preset.tokenizer)
        height, width = preset.image_size
        frames = torch.zeros(1, 3, preset.num_frames, height, width)
    mean = model.encoder(frames).chunk(2, dim=1)[0]
    assert frames.numel() == fold * mean.numel()
    assert model.config.sample_size == preset.image_size
    assert model.decode(mean).sample.shape == frames.shape


def test_the_papers_other_decoder_stride_halves_the_frame_rate() -> None:
    with torch.device("meta"):
        model = VideoTokenizer(
            **presets.paper().tokenizer | {"decoder_strides": ((1, 2, 2), (2, 2, 2), (2, 8, 8))},
        )
        frames = model.decode(torch.zeros(1, 64, 3, 14, 30)).sample
    assert frames.shape == (1, 3, 12, 448, 960)
    assert model.decoded_frames_per_latent == 4


def test_a_latent_depends_on_exactly_its_own_frames() -> None:
    model = tokenizer()
    frames = video().requires_grad_()
    mean = model.encode(frames).latent_dist.mean
    for t in range(3):
        (gradient,) = torch.autograd.grad(mean[0, :, t].square().sum(), frames, retain_graph=True)
        touched = gradient[0].abs().amax(dim=(0, 2, 3))
        inside = torch.arange(24) // 8 == t
        assert (touched[~inside] == 0).all()
        assert (touched[inside][::2] > 0).all()  # every second frame is read
        assert (touched[inside][1::2] == 0).all()


def test_samples_do_not_mix() -> None:
    model = tokenizer()
    frames, z = video(b=2), latents(b=2)
    both, decoded = model.encode(frames).latent_dist.mean, model.decode(z).sample
    for i in range(2):
        alone = model.encode(frames[i : i + 1]).latent_dist.mean
        torch.testing.assert_close(both[i : i + 1], alone, atol=1e-5, rtol=0)
        torch.testing.assert_close(decoded[i : i + 1], model.decode(z[i : i + 1]).sample, atol=1e-5, rtol=0)


def test_decoding_looks_at_all_latents_of_the_window() -> None:
    model = tokenizer().double()
    z = latents().double().requires_grad_()
    (gradient,) = torch.autograd.grad(model.decode(z).sample[0, :, 0].square().sum(), z)
    assert (gradient.abs().amax(dim=1) > 0).all()


def test_rolling_decode_of_one_window_is_decode() -> None:
    model = tokenizer()
    for t in (1, 2, 3):
        z = latents(b=2, t=t)
        assert torch.equal(model.rolling_decode(z), model.decode(z).sample)


@pytest.mark.parametrize("windows_per_batch", [1, 3, 16])
@torch.no_grad()
def test_rolling_decode_keeps_the_middles(windows_per_batch: int) -> None:
    model = tokenizer()
    z = latents(b=2, t=6)
    rolled = model.rolling_decode(z, windows_per_batch=windows_per_batch)
    assert rolled.shape == (2, 3, 48, 32, 64)
    for t in range(6):
        start = min(max(t - 1, 0), 3)
        window = model.decode(z[:, :, start : start + 3]).sample
        kept = window[:, :, 8 * (t - start) : 8 * (t - start + 1)]
        torch.testing.assert_close(rolled[:, :, 8 * t : 8 * (t + 1)], kept, atol=1e-5, rtol=0)
    assert (rolled - model.decode(z).sample).abs().max() > 1e-3


@torch.no_grad()
def test_rolling_decode_with_a_wider_window() -> None:
    model = tokenizer(decode_window=5)
    z = latents(t=7)
    rolled = rearrange(model.rolling_decode(z), "b c (t f) hv wv -> t b c f hv wv", f=8)
    for t, start in enumerate((0, 0, 0, 1, 2, 2, 2)):
        window = model.decode(z[:, :, start : start + 5]).sample
        expected = window[:, :, 8 * (t - start) : 8 * (t - start + 1)]
        torch.testing.assert_close(rolled[t], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.25), ([0.0, 1.0, -2.0, 3.0], [1.0, 0.5, 2.0, 0.1])])
def test_normalize_and_its_inverse(mean: float | list[float], std: float | list[float]) -> None:
    model = tokenizer(latents_mean=mean, latents_std=std)
    z = latents(b=2)
    normal = model.normalize(z)
    for channel in range(4):
        m, s = (v if isinstance(v, float) else v[channel] for v in (mean, std))
        torch.testing.assert_close(normal[:, channel], (z[:, channel] - m) / s)
    torch.testing.assert_close(model.denormalize(normal), z, atol=1e-6, rtol=0)


def test_forward_encodes_and_decodes() -> None:
    model = tokenizer()
    frames = video()
    latent_dist = model.encode(frames).latent_dist
    assert torch.equal(model(frames).sample, model.decode(latent_dist.mean).sample)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(latent_dist.mean.shape, generator=torch.Generator().manual_seed(1))
    sampled = model(frames, sample_posterior=True, generator=generator, return_dict=False)[0]
    torch.testing.assert_close(sampled, model.decode(latent_dist.mean + latent_dist.std * noise).sample)


def test_gradient_checkpointing_changes_nothing() -> None:
    results = []
    for enabled in (False, True):
        model = tokenizer()
        if enabled:
            model.enable_gradient_checkpointing()
            assert model.encoder.gradient_checkpointing
            assert model.decoder.gradient_checkpointing
        loss = model(video(tv=8)).sample.square().mean()
        loss.backward()
        results.append((loss.detach(), {name: p.grad for name, p in model.named_parameters()}))
    torch.testing.assert_close(results[0], results[1])
    assert all(grad is not None for grad in results[0][1].values())


@pytest.mark.parametrize("latents_mean", [0.5, [0.1, 0.2, 0.3, 0.4]])
def test_goes_to_disk_and_back(latents_mean: float | list[float], tmp_path: Path) -> None:
    model = tokenizer(latents_mean=latents_mean)
    model.save_pretrained(tmp_path)
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".json", ".safetensors"]
    loaded = VideoTokenizer.from_pretrained(tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert loaded.config.latents_mean == latents_mean
    frames = video()
    assert torch.equal(loaded(frames).sample, model(frames).sample)


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((1, 3, 12, 32, 64), "frames: expected tv to be a multiple of 8, got 12; crop or pad to 8 or 16"),
        ((1, 3, 4, 32, 64), "frames: expected tv to be a multiple of 8, got 4; crop or pad to 8$"),
        ((1, 3, 8, 30, 64), "frames: expected hv to be a multiple of 16, got 30; crop or pad to 16 or 32"),
        ((1, 3, 8, 32, 65), "frames: expected wv to be a multiple of 16, got 65; crop or pad to 64 or 80"),
        ((1, 4, 8, 32, 64), r"frames: expected \(b, c=3, tv, hv, wv\), got \(1, 4, 8, 32, 64\); give one camera"),
        ((3, 8, 32, 64), r"frames: expected \(b, c=3, tv, hv, wv\), got \(3, 8, 32, 64\)"),
    ],
)
def test_bad_frames(shape: tuple[int, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        tokenizer().encode(torch.zeros(shape))


@pytest.mark.parametrize("method", ["decode", "rolling_decode"])
def test_bad_latents(method: str) -> None:
    message = (
        r"latents: expected \(b, c=4, t, h, w\), got \(1, 3, 2, 4, 5\); encode the frames with this VideoTokenizer"
    )
    with pytest.raises(ValueError, match=message):
        getattr(tokenizer(), method)(torch.zeros(1, 3, 2, 4, 5))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"decoder_strides": ((1, 2, 2), (2, 2, 2), (4, 4, 8))},
            r"decoder_strides: expected to undo the encoder's \[16, 16\] \(height, width\), got \[16, 32\]",
        ),
        ({"latents_mean": [0.0]}, "latents_mean: expected one number or latent_channels=4 of them, got 1"),
        ({"latents_std": [1.0] * 5}, "latents_std: expected one number or latent_channels=4 of them, got 5"),
        ({"decode_window": 2}, "decode_window: expected an odd number, so that it has a middle, got 2"),
    ],
)
def test_bad_configuration(changes: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        VideoTokenizer(**TOKENIZER | changes)
