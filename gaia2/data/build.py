"""From a dataset's own files to shards: in several processes, a log at a time, going on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gaia2._files import replacing
from gaia2.data.datasets import Dataset, find_dataset
from gaia2.data.index import Index
from gaia2.data.shards import PixelFormat, ShardWriter

__all__ = ["BuildOptions", "build_shards"]

SETTINGS_NAME = ".build.json"

# What a damaged log or picture may raise; anything else is a fault of ours and ends the build.
_DAMAGE = (ValueError, OSError, KeyError, IndexError, TypeError, EOFError)


@dataclass(frozen=True)
class BuildOptions:
    """How clips are cut and stored.

    Args:
        num_frames: Frames of a clip; the trainings cut their windows out of it.
        stride: Frames from one clip to the next; None: `num_frames`.
        image_size: (height, width) in pixels; None: as the cameras are, which must be of one size.
        cameras: Names; None: the dataset's usual ones.
        frame_step: Take every so manieth frame.
        pixels: "mp4", "jpg" or "png".
        quality: Of the pixels; None: the default of each.
        logs_per_shard: Drives that go into one shard.
    """

    num_frames: int = 48
    stride: int | None = None
    image_size: tuple[int, int] | None = None
    cameras: tuple[str, ...] | None = None
    frame_step: int = 1
    pixels: PixelFormat = "mp4"
    quality: int | None = None
    logs_per_shard: int = 1

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON values."""
        return json.loads(json.dumps(vars(self)))


def build_shards(
    dataset: str | Dataset,
    root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: BuildOptions = BuildOptions(),
    *,
    logs: Sequence[str] | None = None,
    workers: int = 1,
    retry_failed: bool = False,
    progress: bool = True,
) -> Index:
    """Turn a dataset into clip shards and their index.

    Each shard appears when it is whole. A build that was stopped or killed goes on with the shards that are not there
    yet. What cannot be read (a damaged log, a missing picture, a video cut short) is left out and listed under
    `failed` in the index with what is wrong; it never ends the build.

    Args:
        dataset: A name of `gaia2.data.datasets.DATASETS`, or your own.
        root: Its folder.
        out: Folder for the shards.
        options: How clips are cut and stored; the same for all shards of a folder.
        logs: The drives to take; None: all.
        workers: Processes.
        retry_failed: Build shards anew in which something failed.
        progress: Whether to show a bar.

    Returns:
        The index, also written to `<out>/index.json`.

    Raises:
        FileNotFoundError: The folder does not hold the dataset.
        ValueError: `out` holds shards of another dataset or other options, or a log is unknown.

    Example:
        >>> options = BuildOptions(num_frames=48, image_size=(448, 960))
        >>> build_shards("nuscenes", "/data/nuscenes", "shards", options, workers=8)  # doctest: +SKIP
    """
    found, source, folder = find_dataset(dataset), Path(root), Path(out)
    names = _chosen(found, source, logs)
    if options.num_frames < 1 or options.logs_per_shard < 1 or workers < 1:
        raise ValueError(
            f"build: expected num_frames, logs_per_shard and workers of at least 1, got {options.num_frames}, "
            f"{options.logs_per_shard} and {workers}"
        )
    jobs = list(_jobs(found, source, folder, names, options))
    _check_settings(folder, found.name, names, options)
    todo = [job for job in jobs if not _is_done(job, retry_failed)]
    with tqdm(total=len(jobs), initial=len(jobs) - len(todo), unit="shard", disable=not progress) as bar:
        for clips, failures in _run(todo, workers):
            bar.update()
            bar.set_postfix_str(f"{clips} clips, {failures} failures in the last one")
    index = Index.collect(folder)
    index.save(folder)
    return index


@dataclass(frozen=True)
class _Job:
    """One shard to write."""

    dataset: Dataset
    root: Path
    path: Path
    logs: tuple[str, ...]
    options: BuildOptions


def _chosen(dataset: Dataset, root: Path, logs: Sequence[str] | None) -> list[str]:
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: expected the folder of the dataset {dataset.name}, got no such folder")
    known = dataset.list_logs(root)
    unknown = [log for log in logs or () if log not in known]
    if unknown:
        raise ValueError(f"logs: expected some of the {len(known)} of {root}, got {unknown[0]!r}")
    return known if logs is None else list(logs)


def _jobs(dataset: Dataset, root: Path, folder: Path, logs: list[str], options: BuildOptions) -> Iterator[_Job]:
    for first in range(0, len(logs), options.logs_per_shard):
        part = tuple(logs[first : first + options.logs_per_shard])
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{dataset.name}-{part[0]}")[:60].strip("_")
        digest = hashlib.sha256("\n".join(part).encode()).hexdigest()[:8]
        yield _Job(dataset, root, folder / f"{name}-{digest}.tar", part, options)


def _check_settings(folder: Path, dataset: str, logs: list[str], options: BuildOptions) -> None:
    """Keep what the folder is built with, and refuse another thing."""
    path = folder / SETTINGS_NAME
    settings: dict[str, Any] = {"dataset": dataset, "options": options.to_dict()}
    if options.logs_per_shard > 1:  # more drives would be grouped in another way
        settings["logs"] = logs
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name in settings if before.get(name) != settings[name]]
        if other:
            raise ValueError(
                f"{folder}: expected a folder of this build, got one with another {' and '.join(other)}; finish that "
                "one, or name a new folder and train on both"
            )
        return
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(settings), encoding="utf-8")


def _is_done(job: _Job, retry_failed: bool) -> bool:
    """Whether the shard is whole, and has nothing that shall be tried again."""
    part = job.path.with_suffix(".json")
    if not part.is_file():
        return False
    index = Index.from_json(part.read_text(encoding="utf-8"), str(part))
    whole = all((job.path.parent / shard.name).is_file() for shard in index.shards)
    return whole and not (retry_failed and index.failed)


def _run(jobs: list[_Job], workers: int) -> Iterator[tuple[int, int]]:
    if workers == 1 or len(jobs) < 2:
        yield from map(_write_shard, jobs)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        pending = [pool.submit(_write_shard, job) for job in jobs]
        try:
            for done in as_completed(pending):
                yield done.result()
        except BrokenExecutor as error:
            raise OSError(
                "a process of the build was ended, by the system perhaps for want of memory; what is written stays, "
                "run it again with fewer workers"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _write_shard(job: _Job) -> tuple[int, int]:
    """Write one shard; gives its clips and failures."""
    options = job.options
    with ShardWriter(job.path, pixels=options.pixels, quality=options.quality) as shard:
        for log in job.logs:
            _write_log(job, log, shard)
    return len(shard.clips), len(shard.failed)


def _write_log(job: _Job, log: str, shard: ShardWriter) -> None:
    options = job.options

    def failed(start: int, error: object) -> None:
        shard.failed.append({"log": log, "start": start, "error": str(error)})

    try:
        recording = job.dataset.read_log(job.root, log, cameras=options.cameras, frame_step=options.frame_step)
        starts = recording.starts(options.num_frames, options.stride)
    except _DAMAGE as error:
        failed(
            -1, f"{type(error).__name__}: {error}" if isinstance(error, KeyError | IndexError | TypeError) else error
        )
        return
    if not starts:
        longest = recording.scene.num_frames
        failed(-1, f"no {options.num_frames} frames in a row, {longest} in all; ask for shorter clips")
    for start in starts:
        try:
            clip = recording.clip(start, start + options.num_frames, image_size=options.image_size)
            notes = {"notes": "; ".join(recording.notes)} if recording.notes else {}
            shard.write(type(clip)(clip.scene, clip.frames, clip.source.replace(notes={**clip.source.notes, **notes})))
        except _DAMAGE as error:
            failed(start, error)
