"""The command `gaia2 data`: clip shards from datasets, looked at and checked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from gaia2.data.clip import Clip
    from gaia2.data.index import Index


@dataclass(frozen=True)
class Build:
    """Turn a dataset into clip shards; a build that was stopped goes on where it was."""

    dataset: Literal["argoverse2", "comma2k19", "folder", "nuscenes", "waymo"]
    """Which dataset; "folder" is one of your own, see docs/own_data.md."""
    root: Path
    """Folder of the dataset."""
    out: Path
    """Folder for the shards."""
    num_frames: int = 48
    """Frames of a clip."""
    stride: int | None = None
    """Frames from one clip to the next; clips lie end to end if not given."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels to cut and scale pictures and rigs to."""
    cameras: tuple[str, ...] | None = None
    """Cameras to take; the dataset's usual ones if not given."""
    frame_step: int = 1
    """Take every so manieth frame."""
    pixels: Literal["mp4", "jpg", "png"] = "mp4"
    """H.264 video, JPEG pictures, or PNG pictures without loss."""
    quality: int | None = None
    """Of mp4 the constant rate factor (18), of jpg the quality (95)."""
    logs: tuple[str, ...] | None = None
    """Drives to take; all if not given."""
    logs_per_shard: int = 1
    """Drives that go into one shard."""
    workers: int = 1
    """Processes."""
    retry_failed: bool = False
    """Build shards anew in which something could not be read."""

    def run(self) -> None:
        """Run `gaia2 data build`."""
        from gaia2.data.build import BuildOptions, build_shards

        options = BuildOptions(
            num_frames=self.num_frames,
            stride=self.stride,
            image_size=self.image_size,
            cameras=self.cameras,
            frame_step=self.frame_step,
            pixels=self.pixels,
            quality=self.quality,
            logs_per_shard=self.logs_per_shard,
        )
        index = build_shards(
            self.dataset, self.root, self.out, options,
            logs=self.logs, workers=self.workers, retry_failed=self.retry_failed,
        )  # fmt: skip
        print(summary(index))


@dataclass(frozen=True)
class Inspect:
    """Say what a folder of shards holds."""

    folder: Path
    """Folder of shards, or a URL."""
    by: tuple[str, ...] = ("weather", "time_of_day")
    """Features whose joint distribution to show: metadata, dataset, num_cameras."""
    sheet: Path | None = None
    """Picture (.png) to write: one clip, cameras across and times down, with its boxes."""
    clip: int = 0
    """Which clip to show on it."""

    def run(self) -> None:
        """Run `gaia2 data inspect`."""
        from gaia2.data.index import Index

        index = Index.load(self.folder)
        print(summary(index))
        print(distribution(index, self.by))
        if self.sheet is not None:
            write_sheet(self.folder, index, self.clip, self.sheet)
            print(f"wrote {self.sheet}")


@dataclass(frozen=True)
class Verify:
    """Check the hashes of shards, and that every sample can be decoded."""

    folder: Path
    """Folder of shards."""
    decode: bool = True
    """Decode every sample; else sizes and hashes only."""

    def run(self) -> None:
        """Run `gaia2 data verify`."""
        from gaia2.data.verify import verify_shards

        wrong = verify_shards(self.folder, decode=self.decode)
        for problem in wrong:
            print(problem)
        if wrong:
            raise ValueError(f"{self.folder}: {len(wrong)} problems in its shards")
        print(f"{self.folder}: all is well")


@dataclass(frozen=True)
class Data:
    """Clip shards: build them from datasets, look at them, check them."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[Build, tyro.conf.subcommand("build")]
        | Annotated[Inspect, tyro.conf.subcommand("inspect")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
    ]

    def run(self) -> None:
        """Run the chosen command."""
        self.command.run()


def summary(index: Index) -> str:
    """Counts, hours, rigs and failures of an index, as lines of text."""
    frames = sum(clip.num_frames * len(clip.cameras) for clip in index.clips)
    size = sum(shard.bytes for shard in index.shards)
    lines = [
        f"{len(index.clips)} clips in {len(index.shards)} shards, {index.hours:.2f} hours, {frames} pictures, "
        f"{size / 1e9:.2f} GB"
    ]
    rigs = Counter(
        (clip.source.dataset, len(clip.cameras), clip.image_size, clip.contents, round(clip.frame_rate))
        for clip in index.clips
    )
    for (dataset, cameras, (height, width), contents, rate), count in rigs.most_common():
        lines.append(f"{count:>8} clips of {dataset}: {cameras} cameras, {height}x{width}, {rate} Hz, {contents}")
    for failure in index.failed:
        where = "" if failure["start"] < 0 else f", frame {failure['start']}"
        lines.append(f"left out: {failure['log']}{where}: {failure['error']}")
    return "\n".join(lines)


def distribution(index: Index, names: tuple[str, ...]) -> str:
    """The joint distribution of features that some clip has."""
    from gaia2.data.balancing import balance

    known: set[str] = {"dataset", "num_cameras", "frame_rate"}.union(*(clip.features for clip in index.clips))
    chosen: dict[str, Any] = {name: None for name in names if name in known}
    if not chosen or not index.clips:
        return f"no clip has one of {', '.join(names)}"
    return balance(index.clips, chosen).table()


def write_sheet(folder: Path, index: Index, number: int, path: Path) -> None:
    """Write a contact sheet of one clip with the boxes of its agents."""
    import numpy as np

    from gaia2.data.loader import ShardDataset
    from gaia2.data.sampler import Draw
    from gaia2.viz.contact_sheet import contact_sheet

    if not 0 <= number < len(index.clips):
        raise ValueError(f"--clip: expected 0 to {len(index.clips) - 1}, got {number}")
    entry = index.clips[number]
    if entry.contents == "latents":
        raise ValueError(f"--sheet: expected a clip of pixels, got latents ({entry.key})")
    clip: Any = ShardDataset(folder)[Draw(entry.key, range(entry.num_frames), 0)]
    frames = np.ascontiguousarray(np.asarray(clip.frames).transpose(0, 1, 3, 4, 2))
    rate = None if entry.frame_rate != entry.frame_rate else entry.frame_rate
    contact_sheet(path, with_boxes(clip, frames), clip.scene.rig.names, frame_rate=rate)


def with_boxes(clip: Clip, frames: Any) -> Any:
    """Draw the boxes of a clip's agents on its frames `(tv, n, hv, wv, 3)`."""
    from gaia2.conditioning.projection import project_agents
    from gaia2.viz.overlay import draw_boxes

    if not clip.scene.agents.max_agents:
        return frames
    seen = project_agents(clip.scene).numpy()
    return draw_boxes(frames, seen[..., :4], seen[..., 12].astype(int))
