"""Scalars of a training: a line of JSON each, and TensorBoard events where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class ScalarLog:
    r"""Appends scalars to `scalars.jsonl` in a folder, and to TensorBoard if `gaia2[train]` is installed.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> ScalarLog(folder, tensorboard=False).write(1, {"loss": 0.5})
        >>> (Path(folder) / "scalars.jsonl").read_text()
        '{"step": 1, "loss": 0.5}\n'
    """

    def __init__(self, folder: str | Path, *, tensorboard: bool = True) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.writer = _tensorboard_writer(self.folder) if tensorboard else None

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Append the scalars of one step."""
        with open(self.folder / "scalars.jsonl", "a") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")
        if self.writer is not None:
            for name, value in scalars.items():
                self.writer.add_scalar(name, value, step)


def _tensorboard_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
