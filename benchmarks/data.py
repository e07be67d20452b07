"""Measure how fast clips come out of shards, against PyAV's bare decoding of the same files, and what pixels lose.

    python benchmarks/data.py --video drive.mp4

The video is cut to paper-sized clips of five cameras (parts of its frames), 48 frames each. Times are of the processor,
so that other work on the machine does not count.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import tyro

from gaia2.data import Clip, ClipLoader, ShardDataset, ShardWriter, WindowSampler, cut_windows
from gaia2.data.sampler import Draw
from gaia2.scene import Scene, named_rig
from gaia2.video import read_video

FRAMES, CAMERAS, SIZE = 48, 5, (448, 960)
TFLOP_A_SAMPLE, TFLOPS = 531, 400
"""Of a training sample of the paper's world model without recomputation, and what an H100 may reach of its 989."""


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Processor time of the quickest of some runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def make_clips(video: Path, count: int) -> list[Clip]:
    """Clips of five cameras, each another part of the video's frames."""
    frames, rate = read_video(video, num_frames=FRAMES * count)
    room = np.array(frames.shape[1:3]) - SIZE
    if (room < 0).any():
        raise ValueError(f"{video}: expected frames of at least {SIZE}, got {frames.shape[1:3]}")
    places = [(room * share).astype(int) for share in np.linspace(0, 1, CAMERAS)]
    views = [frames[:, top : top + SIZE[0], left : left + SIZE[1]] for top, left in places]
    pixels = np.stack(views, axis=1).transpose(0, 1, 4, 2, 3)
    scene = Scene.create(named_rig("surround", SIZE), num_frames=FRAMES, frame_rate=rate)
    return [Clip(scene, pixels[FRAMES * i : FRAMES * (i + 1)], "benchmark") for i in range(count)]


def bare(videos: list[bytes], convert: bool) -> None:
    """Decode videos with PyAV and drop the frames, on one thread, perhaps with a conversion to RGB arrays."""
    for data in videos:
        with av.open(io.BytesIO(data), "r") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                if convert:
                    frame.to_ndarray(format="rgb24")


def mp4_files(shard: Path) -> list[bytes]:
    """The videos in a shard."""
    with tarfile.open(shard) as tar:
        files = [tar.extractfile(member) for member in tar if member.name.endswith(".mp4")]
        return [file.read() for file in files if file is not None]


def draws_of(data: ShardDataset, frames: int = FRAMES) -> list[Draw]:
    """The first frames of every clip."""
    return [Draw(clip.key, range(frames), 0) for clip in data.clips]


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """In dB."""
    return float(10 * np.log10(255**2 / np.square(one.astype(np.float32) - other).mean()))


def main(video: Path, clips: int = 2, repeats: int = 3) -> None:
    """Measure and print.

    Args:
        video: a file of at least 448 x 960 pixels.
        clips: how many clips to cut out of it.
        repeats: runs, of which the quickest counts.
    """
    made = make_clips(video, clips)
    with tempfile.TemporaryDirectory() as folder:
        for pixels in ("mp4", "jpg"):
            start = time.process_time()
            with ShardWriter(f"{folder}/{pixels}/a.tar", pixels=pixels) as shard:
                for clip in made:
                    shard.write(clip)
            spent = time.process_time() - start
            data = ShardDataset(f"{folder}/{pixels}")
            loss = np.mean(
                [psnr(data[draw].frames, clip.frames) for draw, clip in zip(draws_of(data), made, strict=True)]
            )
            size = data.indices[0].shards[0].bytes / clips / 1e6
            print(f"{pixels}: {size:.1f} MB a clip, {loss:.1f} dB, written in {spent / clips:.1f} s a clip")
        measure(Path(folder), clips, repeats)


def measure(folder: Path, clips: int, repeats: int) -> None:
    """Times of decoding the mp4 and jpg shards."""
    videos = mp4_files(folder / "mp4" / "a.tar")
    pictures = clips * CAMERAS * FRAMES
    data, jpeg = ShardDataset(folder / "mp4"), ShardDataset(folder / "jpg")
    loader = ClipLoader(data, WindowSampler(cut_windows(data.clips, FRAMES), batch_size=1))
    one = ShardDataset(folder / "mp4", cameras="one")
    work: dict[str, Callable[[], object]] = {
        "PyAV, frames dropped": lambda: bare(videos, convert=False),
        "PyAV, RGB arrays": lambda: bare(videos, convert=True),
        "clips": lambda: [data[draw] for draw in draws_of(data)],
        "ClipLoader, batches": lambda: list(loader),
        "clips of jpg": lambda: [jpeg[draw] for draw in draws_of(jpeg)],
    }
    times = {name: seconds(run, repeats) for name, run in work.items()}
    base = times["PyAV, frames dropped"]
    for name, spent in times.items():
        print(f"{name:24}{pictures / spent:8.0f} pictures/s of one core, {spent / base:.2f} of bare decoding")
    part = seconds(lambda: [one[draw] for draw in draws_of(one, FRAMES // 2)], repeats)
    print(f"one camera, 24 frames   {part / clips * 1000:8.0f} ms a sample")
    step = TFLOP_A_SAMPLE / TFLOPS
    need = CAMERAS * FRAMES / step
    print(
        f"paper: one sample a GPU and step of at least {step:.2f} s needs {need:.0f} pictures/s, "
        f"{need / (pictures / times['ClipLoader, batches']):.2f} cores a GPU"
    )


if __name__ == "__main__":
    tyro.cli(main)
