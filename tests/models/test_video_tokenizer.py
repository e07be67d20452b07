from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
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


@pytest.mark.parametrize(("preset", "fold"), [(presets.paper(), 384), (presets.mini(), 96)])
def test_compresses_exactly(preset: presets.Preset, fold: int) -> None:
    with torch.device("meta"):
        model = VideoTokenizer(**preset.tokenizer)
        height, width = preset.image_size
        frames = torch.zeros(1, 3, preset.num_frames, height, width)
    mean = model.encoder(frames).chunk(2, dim=1)[0]
    assert frames.numel() == fold * mean.numel()
    assert model.compression_ratio == fold
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


def pieces(z: torch.Tensor, sizes: list[int]) -> Iterator[torch.Tensor]:
    assert sum(sizes) == z.shape[2]
    yield from z.split(sizes, dim=2)


@pytest.mark.parametrize(("b", "windows_per_batch"), [(1, 1), (1, 16), (3, 2), (2, 4)])
@pytest.mark.parametrize("sizes", [[1], [1, 2], [1] * 6, [4, 2]])
@torch.no_grad()
def test_a_stream_gives_the_frames_of_rolling_decode(sizes: list[int], windows_per_batch: int, b: int) -> None:
    model = tokenizer()
    z = latents(b=b, t=sum(sizes))
    rolled = model.rolling_decode(z, windows_per_batch)
    for given in (z, pieces(z, sizes)):
        frames = list(model.decode_stream(given, windows_per_batch))
        assert [f.shape for f in frames] == [(b, 3, 8, 32, 64)] * sum(sizes)
        assert torch.equal(torch.cat(frames, dim=2), rolled)


@torch.no_grad()
def test_a_stream_gives_frames_as_soon_as_their_window_is_there() -> None:
    asked = []

    def one_by_one() -> Iterator[torch.Tensor]:
        for t in range(6):
            asked.append(t)
            yield latents(seed=t, t=1)

    stream = tokenizer().decode_stream(one_by_one(), windows_per_batch=1)
    assert asked == []
    seen = [len(asked) for _ in stream]
    assert seen == [3, 3, 4, 5, 6, 6]


MEMORY = """
import re, sys
from pathlib import Path
import torch
from tests.tiny import tokenizer

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

def latents(t):
    return (torch.randn(1, 4, 1, 4, 8) for _ in range(t))

model = tokenizer(decoder_blocks=(0, 0))
with torch.no_grad():
    frames = sum(f.shape[2] for f in model.decode_stream(latents(8), windows_per_batch=2))
    short = peak()
    frames += sum(f.shape[2] for f in model.decode_stream(latents(75), windows_per_batch=2))
    long = peak()
    model.rolling_decode(torch.cat(list(latents(75)), dim=2), windows_per_batch=2)
    print(frames, long / short, peak() / short)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc")
def test_the_memory_of_a_stream_does_not_grow_with_the_video() -> None:
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    frames, stream, whole = map(float, run.stdout.split())
    assert frames == 64 + 600
    assert stream < 1.1
    assert whole > 1.1  # the same video in one piece: the measure sees it


@torch.no_grad()
def test_slicing_changes_nothing() -> None:
    model = tokenizer()
    frames, z = video(b=3), latents(b=3, t=5)
    mean, decoded, rolled = model.encode(frames).latent_dist.mean, model.decode(z).sample, model.rolling_decode(z)
    batches = []
    hooks = [
        m.register_forward_pre_hook(lambda m, x: batches.append(len(x[0]))) for m in (model.encoder, model.decoder)
    ]
    model.enable_slicing()
    torch.testing.assert_close(model.encode(frames).latent_dist.mean, mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.decode(z).sample, decoded, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.rolling_decode(z), rolled, atol=1e-5, rtol=0)
    assert set(batches) == {1}
    model.disable_slicing()
    model.encode(frames)
    assert batches.pop() == 3
    assert all(hook.remove() is None for hook in hooks)


@torch.no_grad()
def test_tiling_shows_the_model_tiles_only_and_blends_them() -> None:
    model = tokenizer()
    model.disable_tiling()
    frames = torch.rand(1, 3, 8, 48, 112) * 2 - 1
    sizes = []
    hooks = [
        m.register_forward_pre_hook(lambda m, x: sizes.append(tuple(x[0].shape[3:])))
        for m in (model.encoder, model.decoder)
    ]
    whole = model.encode(frames).latent_dist.mean
    assert sizes.pop() == (48, 112)
    model.enable_tiling(tile_sample_min_height=32, tile_sample_min_width=64, tile_sample_stride_width=32)
    tiled = model.encode(frames).latent_dist.mean
    assert sizes == [(32, 64)] * 6  # 2 down, 3 across: columns begin at 0, 32, and 48 at the border
    assert tiled.shape == whole.shape
    z = torch.randn(1, 4, 1, 3, 7)
    sizes.clear()
    decoded = model.decode(z).sample
    assert sizes == [(2, 4)] * 6
    left, middle = model.decoder(z[..., :2, 0:4]), model.decoder(z[..., :2, 2:6])
    assert torch.equal(decoded[..., :16, :32], left[..., :16, :32])  # one tile alone
    fade = torch.arange(1, 17) / 33  # of 32 pixels, of which another tile joins in after 16
    expected = left[..., :16, 32:48] * (1 - fade) + middle[..., :16, :16] * fade
    torch.testing.assert_close(decoded[..., :16, 32:48], expected, atol=1e-5, rtol=0)
    model.disable_tiling()
    assert torch.equal(model.encode(frames).latent_dist.mean, whole)
    assert all(hook.remove() is None for hook in hooks)


@torch.no_grad()
def test_tiles_of_the_trained_size_are_the_default_and_change_nothing_there() -> None:
    model, large = tokenizer(), torch.rand(1, 3, 8, 64, 128) * 2 - 1
    frames, sizes = video(), []
    hook = model.encoder.register_forward_pre_hook(lambda m, x: sizes.append(tuple(x[0].shape[3:])))
    tiled = model(large).sample
    assert set(sizes) == {(32, 64)}
    plain = model(frames).sample
    model.enable_tiling()
    assert torch.equal(model(large).sample, tiled)
    model.disable_tiling()
    assert torch.equal(model(frames).sample, plain)
    assert not torch.equal(model(large).sample, tiled)
    hook.remove()


@pytest.mark.parametrize("size", [(16, 16), (48, 32), (80, 112)])
@torch.no_grad()
def test_other_resolutions(size: tuple[int, int]) -> None:
    model = tokenizer()
    frames = torch.rand(1, 3, 8, *size) * 2 - 1
    latent_dist = model.encode(frames).latent_dist
    assert latent_dist.mean.shape == (1, 4, 1, size[0] // 16, size[1] // 16)
    assert model.decode(latent_dist.mean).sample.shape == frames.shape


def test_outputs_as_tuples() -> None:
    model = tokenizer()
    frames = video(tv=8)
    latent_dist = model.encode(frames, return_dict=False)[0]
    assert torch.equal(latent_dist.mean, model.encode(frames).latent_dist.mean)
    z = latent_dist.mode()
    assert torch.equal(model.decode(z, return_dict=False)[0], model.decode(z).sample)


def test_offloading_brings_the_weights_before_each_way_in() -> None:
    model = tokenizer()
    calls = []

    class Hook:
        def pre_forward(self, module: torch.nn.Module) -> None:
            calls.append(module)

    model._hf_hook = Hook()
    z = model.encode(video(tv=8)).latent_dist.mean
    model.decode(z)
    model.rolling_decode(z)
    list(model.decode_stream(z))
    assert calls == [model] * 4


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
        ((1, 3, 4, 32, 64), "frames: expected tv to be a multiple of 8, got 4; crop or pad to 8 .VideoTokenizer.pad"),
        ((1, 3, 8, 30, 64), "frames: expected hv to be a multiple of 16, got 30; crop or pad to 16 or 32"),
        ((1, 3, 8, 32, 65), "frames: expected wv to be a multiple of 16, got 65; crop or pad to 64 or 80"),
        ((1, 4, 8, 32, 64), r"frames: expected \(b, c=3, tv, hv, wv\), got \(1, 4, 8, 32, 64\); give one camera"),
        ((3, 8, 32, 64), r"frames: expected \(b, c=3, tv, hv, wv\), got \(3, 8, 32, 64\)"),
    ],
)
def test_bad_frames(shape: tuple[int, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        tokenizer().encode(torch.zeros(shape))


@pytest.mark.parametrize(
    ("frames", "match"),
    [
        (torch.full((1, 3, 8, 32, 64), 255.0), r"frames: expected values in \[-1, 1\], got 255 to 255; scale them"),
        (-2 * torch.ones(1, 3, 8, 32, 64), r"frames: expected values in \[-1, 1\], got -2 to -2; scale them, or clamp"),
        (torch.zeros(1, 3, 8, 32, 64, dtype=torch.uint8), r"frames: expected floats in \[-1, 1\], got torch.uint8; of"),
    ],
)
def test_frames_of_another_range(frames: torch.Tensor, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        tokenizer().encode(frames)


def test_a_little_overshoot_is_no_error() -> None:
    tokenizer().encode(torch.full((1, 3, 8, 32, 64), 1.05))


@torch.no_grad()
def test_padding_makes_any_size_fit() -> None:
    model = tokenizer()
    frames = video()[:, :, :13, :25, :50]
    padded = model.pad(frames)
    assert padded.shape == (1, 3, 16, 32, 64)
    for axis, size in ((2, 13), (3, 25), (4, 50)):
        inside, outside = padded.split([size, padded.shape[axis] - size], dim=axis)
        assert (outside == inside.narrow(axis, size - 1, 1)).all()
    assert torch.equal(padded[:, :, :13, :25, :50], frames)
    assert model(padded).sample.shape == padded.shape
    assert torch.equal(model.pad(padded), padded)
    with pytest.raises(ValueError, match=r"frames: expected \(b, c, tv, hv, wv\), got \(3, 13, 25, 50\); give one cam"):
        model.pad(frames[0])


@pytest.mark.parametrize("method", ["decode", "rolling_decode", "decode_stream"])
def test_bad_latents(method: str) -> None:
    message = (
        r"latents: expected \(b, c=4, t, h, w\), got \(1, 3, 2, 4, 5\); encode the frames with this VideoTokenizer"
    )
    with pytest.raises(ValueError, match=message):
        getattr(tokenizer(), method)(torch.zeros(1, 3, 2, 4, 5))


def test_a_bad_piece_and_a_bad_number_of_windows() -> None:
    with pytest.raises(ValueError, match=r"latents: expected \(b, c=4, t, h, w\), got \(1, 3, 2, 4, 5\)"):
        next(tokenizer().decode_stream(iter([torch.zeros(1, 3, 2, 4, 5)])))
    with pytest.raises(ValueError, match="windows_per_batch: expected a whole number from 1"):
        tokenizer().decode_stream(latents(), windows_per_batch=0)


@pytest.mark.parametrize(
    ("tiles", "match"),
    [
        (dict(tile_sample_min_height=24), r"multiples of 16 pixels, .*, got tiles of \(height, width\) = \(24, 64\)"),
        (dict(tile_sample_stride_width=40), r"tiles: expected sizes and strides in multiples of 16 pixels"),
        (dict(tile_sample_min_width=32, tile_sample_stride_width=48), "no stride larger than its tile, got tiles of"),
    ],
)
def test_bad_tiles(tiles: dict[str, int], match: str) -> None:
    model = tokenizer()
    with pytest.raises(ValueError, match=match):
        model.enable_tiling(**tiles)
    assert model._tiles == tokenizer()._tiles


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


def test_attention_of_the_tokenizer_is_fused_and_adapted_as_in_diffusers(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model, frames = tokenizer(), torch.rand(1, 3, 8, 32, 64) * 2 - 1
    plain = model(frames).sample
    assert len(model.attn_processors) == 1 + 2 * 2  # a spatial block, and two of space and time
    model.fuse_qkv_projections()
    torch.testing.assert_close(model(frames).sample, plain, atol=1e-5, rtol=0)
    model.unfuse_qkv_projections()
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_out.0"], init_lora_weights=False))
    adapted = model(frames).sample
    assert (adapted - plain).abs().max() > 1e-4
    model.save_lora_adapter(tmp_path)
    model.unload_lora()
    model.load_lora_adapter(tmp_path)
    torch.testing.assert_close(model(frames).sample, adapted, atol=1e-6, rtol=0)
