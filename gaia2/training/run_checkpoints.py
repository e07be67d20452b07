"""The checkpoints of a run: a folder for each, written beside the training by all ranks, of any number to any number.

`step-000000250/` holds what `torch.distributed.checkpoint` writes, `training.json` with the step and the options, and
from each rank `rank-0.json` with the sizes and SHA-256 of its files, written last. A folder in which one of these is
missing is half-written, and is passed over. Nothing in a file is executed.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from gaia2._files import replacing
from gaia2.training.ranks import Ranks

warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")  # we know

FACTS = "training.json"
METADATA = "torch.distributed.checkpoint.metadata"
TRUSTED = {
    *((METADATA, name) for name in ("Metadata", "MetadataIndex", "StorageMeta", "TensorProperties")),
    *((METADATA, name) for name in ("TensorStorageMetadata", "ChunkStorageMetadata", "_MEM_FORMAT_ENCODING")),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
    ("pathlib", "PosixPath"),
}
"""What a table of contents is made of, besides number formats."""


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk.

    Attributes:
        path: Its folder.
        step: Steps that were done.
        facts: What `RunCheckpoints.save` was given, and the number of ranks.
    """

    path: Path
    step: int
    facts: dict[str, Any]


@dataclass
class RunCheckpoints:
    """Writes and finds the checkpoints of a run.

    Attributes:
        folder: Where they are.
        ranks: Who writes them.
        keep_last: How many are kept.
        keep_every: Those of every so many steps are kept for good.

    Example:
        >>> import tempfile
        >>> checkpoints = RunCheckpoints(Path(tempfile.mkdtemp()))
        >>> checkpoints.save(7, {"weights": torch.ones(2)}, {"seed": 0})
        >>> checkpoints.finish()
        >>> last, weights = checkpoints.newest(), torch.zeros(2)
        >>> checkpoints.load(last, {"weights": weights})
        >>> last.step, weights.tolist()
        (7, [1.0, 1.0])
    """

    folder: Path
    ranks: Ranks = field(default_factory=Ranks)
    keep_last: int = 2
    keep_every: int | None = None

    def __post_init__(self) -> None:
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._writing: Future[None] | None = None
        self._step = 0

    def save(self, step: int, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        """Begin to write a checkpoint; the tensors may change as soon as this returns.

        Args:
            step: Steps that are done.
            tensors: By name; those that are sharded are written by all ranks together.
            facts: JSON values.

        Raises:
            RuntimeError: If the checkpoint before this one could not be written.
        """
        self.finish()
        path = self._path(step)
        if self.ranks.is_main:
            shutil.rmtree(path, ignore_errors=True)  # half-written, by a run that was killed
            path.mkdir(parents=True)
            with replacing(path / FACTS) as unfinished:
                unfinished.write_text(json.dumps({**facts, "step": step, "ranks": self.ranks.world}, indent=2))
        self.ranks.barrier()
        saving: Any = dcp.async_save(
            dict(tensors),
            storage_writer=FileSystemWriter(path),
            process_group=self.ranks.files,
            no_dist=self.ranks.world == 1,
        )
        written = getattr(saving, "upload_completion", saving)
        self._writing, self._step = self._writer.submit(self._sign_when, written, path), step

    def finish(self) -> None:
        """Wait until all that was begun is on disk, and remove what need not be kept.

        Raises:
            RuntimeError: If it could not be written, with the last checkpoint that is whole.
        """
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        error: BaseException | None = None
        try:
            writing.result()
        except (Exception, CheckpointException) as failure:  # of any kind: the ranks' agreement wraps a full disk
            error = failure
        if self.ranks.any(error is not None):
            whole = self.newest(verify=False)
            raise RuntimeError(
                f"{self._path(self._step)}: the checkpoint could not be written: {_reason(error)}, with "
                f"{shutil.disk_usage(self.folder).free / 1e9:.3g} GB free there; "
                f"{'there is no whole one' if whole is None else f'the last whole one is of step {whole.step}'}. "
                "Make room, for example with a smaller --keep-last, and start again with the same words"
            ) from error
        if self.ranks.is_main:
            self._prune()

    def newest(self, *, verify: bool = True) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None if none was finished.

        Args:
            verify: Compare all bytes with their checksums; one that is damaged is passed over, with a message.

        Raises:
            ValueError: If there are checkpoints, and all are damaged.
        """
        found = sorted(filter(None, map(_read, self.folder.glob("step-*"))), key=lambda one: -one.step)
        for checkpoint in found:
            damaged = self._damaged(checkpoint.path) if verify else None
            if not self.ranks.any(damaged is not None):
                return checkpoint
            if damaged is not None:
                print(f"{damaged}: its checksum is wrong; the checkpoint of step {checkpoint.step} is passed over")
        if found:
            raise ValueError(
                f"{self.folder}: expected a checkpoint that is whole, got {len(found)} whose checksums are all wrong; "
                "bring one back from a copy, or remove them to begin anew"
            )
        return None

    def load(self, checkpoint: Checkpoint, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copy a checkpoint into tensors, in place, sharded in whatever way.

        Raises:
            ValueError: If it has not exactly these tensors, with these sizes.
        """
        load_tensors(checkpoint.path, tensors, group=self.ranks.files, alone=self.ranks.world == 1)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}"

    def _sign_when(self, written: Future[Any], path: Path) -> None:
        """Wait until this rank's files are written, then say that they are whole."""
        written.result()
        own = list(path.glob(f"__{self.ranks.rank}_*.distcp")) + ([path / ".metadata"] if self.ranks.is_main else [])
        files = {file.name: [file.stat().st_size, _sha256(file)] for file in own}
        with replacing(path / f"rank-{self.ranks.rank}.json") as unfinished:
            unfinished.write_text(json.dumps(files, indent=2))

    def _damaged(self, path: Path) -> Path | None:
        """A file whose checksum is wrong, of those that fall to this rank to check."""
        signed = sorted(path.glob("rank-*.json"))
        for note in signed[self.ranks.rank :: self.ranks.world]:
            for name, (size, digest) in json.loads(note.read_text()).items():
                file = path / name
                if not file.is_file() or file.stat().st_size != size or _sha256(file) != digest:
                    return file
        return None

    def _prune(self) -> None:
        """Remove old checkpoints, and half-written ones that are older than a whole one."""
        whole = sorted(one.step for one in filter(None, map(_read, self.folder.glob("step-*"))))
        kept = set(whole[-self.keep_last :])
        if self.keep_every is not None:
            kept |= {step for step in whole if step % self.keep_every == 0}
        for path in self.folder.glob("step-*"):
            step = _step_of(path)
            if step is not None and whole and step < whole[-1] and step not in kept:
                (path / FACTS).unlink(missing_ok=True)  # first, so that a kill leaves none that looks whole
                shutil.rmtree(path, ignore_errors=True)


def load_tensors(path: Path, tensors: Mapping[str, torch.Tensor], *, group: Any = None, alone: bool = True) -> None:
    """Copy tensors of a checkpoint into given ones, in place.

    Raises:
        ValueError: If a tensor is not in the checkpoint, or has another size.
    """
    sizes = tensor_sizes(path)
    for name, tensor in tensors.items():
        if sizes.get(name) != tensor.shape:
            got = f"{tuple(sizes[name])}" if name in sizes else "none"
            raise ValueError(
                f"{path}: expected {name} of {tuple(tensor.shape)}, got {got}; go on with the options that the run was "
                "begun with, or give another folder"
            )
    dcp.load(dict(tensors), storage_reader=_Reader(path), process_group=group, no_dist=alone)


def tensor_sizes(path: Path) -> dict[str, torch.Size]:
    """Names and sizes of the tensors of a checkpoint."""
    entries = _Reader(path).read_metadata().state_dict_metadata.items()
    return {name: entry.size for name, entry in entries if isinstance(entry, TensorStorageMetadata)}


class _Reader(FileSystemReader):
    """Reads a checkpoint's table of contents, which is pickled, without executing anything."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        path = Path(self.path) / ".metadata"
        with open(path, "rb") as file:
            try:
                metadata = _Unpickler(file).load()
            except (pickle.UnpicklingError, EOFError, AttributeError, ValueError) as error:
                raise ValueError(f"{path}: expected a checkpoint's table of contents, got {error}") from error
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in TRUSTED:
            return super().find_class(module, name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise pickle.UnpicklingError(f"{module}.{name}, which has no place in one")


def _read(path: Path) -> Checkpoint | None:
    """A checkpoint, or None if it is half-written."""
    try:
        facts = json.loads((path / FACTS).read_text())
        whole = all((path / f"rank-{rank}.json").is_file() for rank in range(facts["ranks"]))
    except (OSError, ValueError, KeyError):
        return None
    return Checkpoint(path, facts["step"], facts) if whole else None


def _step_of(path: Path) -> int | None:
    number = path.name.removeprefix("step-")
    return int(number) if number.isdigit() else None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: BaseException | None) -> str:
    """What an error says, and those that it was made from."""
    if error is None:
        return "another rank failed"
    causes = getattr(error, "failures", None) or {}
    texts = [str(error) or type(error).__name__, *(str(failure[0]) for failure in causes.values())]
    return texts[-1]
