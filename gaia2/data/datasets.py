"""The datasets that can be read, each as two functions, and the clips of any of them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gaia2.data.clip import Clip
from gaia2.data.recording import Recording

__all__ = ["DATASETS", "Dataset", "find_dataset", "read_clips"]

DATASETS = {
    "argoverse2": "gaia2.data.argoverse2",
    "comma2k19": "gaia2.data.comma2k19",
    "folder": "gaia2.data.own_folder",
    "nuscenes": "gaia2.data.nuscenes",
    "waymo": "gaia2.data.waymo",
}
"""Names of the datasets; each module has the functions `list_logs` and `read_log`."""


class Dataset(NamedTuple):
    """How a dataset is read. One of your own is two functions at the top of a file of yours.

    Args:
        name: Of the dataset; begins the names of its shards.
        list_logs: Gives the names of the drives in the dataset's folder.
        read_log: Gives one of them: `read_log(root, log, cameras=None, frame_step=1)`.

    Example:
        >>> mine = Dataset("mine", list_logs, read_log)  # doctest: +SKIP
        >>> build_shards(mine, "/data/mine", "shards", num_frames=48)  # doctest: +SKIP
    """

    name: str
    list_logs: Callable[[Path], list[str]]
    read_log: Callable[..., Recording]


def find_dataset(name: str | Dataset) -> Dataset:
    """Return a dataset of `DATASETS` by its name.

    Raises:
        ValueError: There is none of that name.
    """
    if isinstance(name, Dataset):
        return name
    if name not in DATASETS:
        raise ValueError(f"dataset: expected one of {', '.join(DATASETS)}, or a Dataset of your own, got {name!r}")
    module = importlib.import_module(DATASETS[name])
    return Dataset(name, module.list_logs, module.read_log)


def read_clips(
    dataset: str | Dataset,
    root: str | os.PathLike[str],
    *,
    num_frames: int,
    stride: int | None = None,
    image_size: tuple[int, int] | None = None,
    cameras: tuple[str, ...] | None = None,
    frame_step: int = 1,
) -> Iterator[Clip]:
    """Give the clips of a dataset, log by log, straight from its own files.

    Args:
        dataset: A name of `DATASETS`, or your own.
        root: Its folder.
        num_frames: Frames of a clip.
        stride: Frames from one clip to the next; None: `num_frames`.
        image_size: (height, width) in pixels to cut and scale pictures and rigs to; None: as they are, which needs
            cameras of one size.
        cameras: Names of the cameras; None: the dataset's usual ones.
        frame_step: Take every so manieth frame.

    Raises:
        FileNotFoundError: The folder does not hold the dataset.
        ValueError: Something in it is damaged.

    Example:
        >>> clips = read_clips("nuscenes", "/data/nuscenes", num_frames=48, image_size=(448, 960))  # doctest: +SKIP
        >>> next(clips).scene.rig.num_cameras  # doctest: +SKIP
        6
    """
    found, folder = find_dataset(dataset), Path(root)
    for log in found.list_logs(folder):
        recording = found.read_log(folder, log, cameras=cameras, frame_step=frame_step)
        yield from recording.clips(num_frames, stride=stride, image_size=image_size)
