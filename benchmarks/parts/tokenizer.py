"""The video tokenizer: encoding and decoding against the floor, a pixel's cost, and beside other autoencoders.

Axes: b batch, c channels, tv video frames, hv wv pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.floor import Floor
from benchmarks.memory import peak
from benchmarks.parts.blocks import against_floor
from benchmarks.peers import autoencoders, gaia2_pytorch
from benchmarks.settings import Settings
from benchmarks.timing import Figure, Spread, collect, interleaved, ratio
from gaia2.models import presets
from gaia2.models.video_tokenizer import VideoTokenizer

TINY = dict(dim=32, num_heads=2, encoder_blocks=1, decoder_blocks=(1, 1))


def ours(settings: Settings, dtype: torch.dtype, preset: str = "paper") -> VideoTokenizer:
    """A tokenizer of a preset, with random weights."""
    torch.manual_seed(0)
    options = {**getattr(presets, preset)().tokenizer, **(TINY if settings.small else {})}
    return VideoTokenizer(**options).to(settings.device, dtype).eval()


def clip(settings: Settings, dtype: torch.dtype, size: tuple[int, int, int] = (24, 128, 256)) -> torch.Tensor:
    """Frames `(1, 3, tv, hv, wv)` in [-1, 1]."""
    size = (8, 32, 64) if settings.small else size
    return (2 * torch.rand(1, 3, *size, device=settings.device) - 1).to(dtype)


def ways(model: Any, frames: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """Encoding of frames, and decoding of their latents."""
    with torch.no_grad():
        latents = model.encode(frames).latent_dist.mode()

    def encode() -> Any:
        with torch.no_grad():
            return model.encode(frames).latent_dist.mode()

    def decode() -> Any:
        with torch.no_grad():
            return model.decode(latents)

    return {"encode": encode, "decode": decode}


def measure(settings: Settings) -> Iterator[Figure]:
    """Encoding and decoding of a clip of the paper's model, and of the default model's size."""
    for preset, size in (("paper", (24, 128, 256)), ("mini", (24, 64, 128))):
        for name, dtype in zip(settings.dtypes, settings.torch_dtypes, strict=True):
            model, frames = ours(settings, dtype, preset), clip(settings, dtype, size)
            works: dict[str, tuple[Callable[[], Any], float | None]] = {
                f"{preset}, {name}, {way}": (run, None) for way, run in ways(model, frames).items()
            }
            yield from against_floor("tokenizer", works, settings, {"clip": tuple(frames.shape[2:])})
            del model, works
            collect()


def measure_peers(settings: Settings) -> Iterator[Figure]:
    """Encoding and decoding of one clip, by the paper's model and by other packages' at their published sizes."""
    for name, dtype in zip(settings.dtypes, settings.torch_dtypes, strict=True):
        frames = clip(settings, dtype)
        own = _both(ways(ours(settings, dtype), frames))
        names = list(autoencoders.MAKE) if not settings.small else []
        for label in names:
            try:
                peer = _both(ways(autoencoders.MAKE[label](dtype, settings.device), autoencoders.frames_for(frames)))
            except NotImplementedError as error:  # some of torch's operations have no bfloat16 on processors
                print(f"{label}, {name}: left out, as it does not run here: {error}", flush=True)
                continue
            yield from _beside(label, name, own, peer, frames, settings, 0.5)
            del peer
            collect()
    if gaia2_pytorch.available() and not settings.small:
        yield from _beside_gaia2_pytorch(settings)


def _both(runs: dict[str, Callable[[], Any]]) -> Callable[[], None]:
    def both() -> None:
        for run in runs.values():
            run()

    return both


def _beside(
    label: str,
    name: str,
    own: Callable[[], Any],
    peer: Callable[[], Any],
    frames: torch.Tensor,
    settings: Settings,
    target: float | None,
) -> Iterator[Figure]:
    floors = {"ours": Floor(own, settings.device), label: Floor(peer, settings.device)}
    times = interleaved({"ours": own, label: peer}, min(settings.rounds, 3))
    pixels = frames[0, 0].numel()
    memory = {"our_mib": peak(own), "mib": peak(peer)}
    microseconds = {who: 1e6 * Spread.of(spent).median / pixels for who, spent in times.items()}
    details = {
        "clip": tuple(frames.shape[2:]),
        "gflop": floors[label].flops / 1e9,
        "our_gflop": floors["ours"].flops / 1e9,
        "microseconds_a_pixel": microseconds[label],
        "our_microseconds_a_pixel": microseconds["ours"],
        **memory,
    }
    value = ratio(times["ours"], times[label])
    yield Figure("tokenizer_peers", f"{label}, {name}, encode and decode", "of the peer", value, target, details)


def _beside_gaia2_pytorch(settings: Settings) -> Iterator[Figure]:
    """A clip of 8 frames of 32x64 pixels: it keeps each pixel as a token."""
    frames = clip(settings, torch.float32, (8, 32, 64))
    model = gaia2_pytorch.tokenizer(torch.float32, settings.device)

    def peer() -> None:
        with torch.no_grad():
            model.decode(model.encode(frames)[0])

    own = _both(ways(ours(settings, torch.float32), frames))
    yield from _beside("gaia2-pytorch", "float32", own, peer, frames, settings, 0.5)
