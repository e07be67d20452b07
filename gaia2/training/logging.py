"""Scalars and pictures of a training: a line of JSON a step, and TensorBoard events where it is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gaia2._files import replacing


class ScalarLog:
    r"""Appends scalars to `scalars.jsonl` in a folder, and to TensorBoard if `gaia2[train]` is installed.

    Args:
        folder: Where to; made if it is not there.
        start: Steps that a resumed training has done; what was written of later ones, by a run that was killed, is
            dropped. 0 begins anew, None keeps everything.
        tensorboard: Whether to write TensorBoard events.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> ScalarLog(folder, tensorboard=False).write(1, {"loss": 0.5})
        >>> (Path(folder) / "scalars.jsonl").read_text()
        '{"step": 1, "loss": 0.5}\n'
    """

    def __init__(self, folder: str | Path, *, start: int | None = None, tensorboard: bool = True) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "scalars.jsonl"
        if start is not None and self.path.is_file():
            kept = _lines_until(self.path, start) if start else []
            with replacing(self.path) as unfinished:
                unfinished.write_text("".join(kept))
        self.writer = _tensorboard_writer(self.folder, start) if tensorboard else None

    def write(self, step: int, scalars: Mapping[str, float], *, shown: Mapping[str, float] | None = None) -> None:
        """Append the scalars of one step; those of `shown` go to TensorBoard only."""
        with open(self.path, "a") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")
        if self.writer is not None:
            for name, value in {**scalars, **(shown or {})}.items():
                self.writer.add_scalar(name, value, step)

    def show(self, step: int, name: str, picture: np.ndarray) -> None:
        """Show a picture `(h, w, 3)` uint8 in TensorBoard, if it is installed."""
        if self.writer is not None:
            self.writer.add_image(name, picture, step, dataformats="HWC")


def _lines_until(path: Path, step: int) -> list[str]:
    """The whole lines of a log up to a step; a killed process may have left half a line at the end."""
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("}\n")]
    return [line for line in lines if json.loads(line)["step"] <= step]


def _tensorboard_writer(folder: Path, start: int | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=None if start is None else start + 1)
