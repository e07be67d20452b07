from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from gaia2 import _checkpoint as checkpoint
from gaia2._checkpoint import TRAILER, load_checkpoint, save_checkpoint


def test_goes_to_disk_and_back(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    path = tmp_path / "deeper" / "training.pt"
    save_checkpoint(path, {"step": 7, "model": model.state_dict(), "optimizer": optimizer.state_dict()})
    loaded = load_checkpoint(path)
    assert loaded["step"] == 7
    torch.testing.assert_close(dict(loaded["model"]), dict(model.state_dict()), rtol=0, atol=0)
    torch.testing.assert_close(loaded["optimizer"]["state"], optimizer.state_dict()["state"], rtol=0, atol=0)
    assert [file.name for file in path.parent.iterdir()] == ["training.pt"]


def test_a_killed_write_leaves_the_file_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "training.pt"
    save_checkpoint(path, {"step": 1})

    def killed(state: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}
    monkeypatch.undo()
    save_checkpoint(path, {"step": 3})
    assert load_checkpoint(path) == {"step": 3}


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"training.pt: expected a training checkpoint, got no file; start"):
        load_checkpoint(tmp_path / "training.pt")


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    save_checkpoint(path, {"weights": torch.zeros(1000)})
    for content in (b"", b"not a checkpoint", path.read_bytes()[:1500]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="expected a training checkpoint, got a file that cannot be read"):
            load_checkpoint(path)


def test_every_truncation_and_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    save_checkpoint(path, {"weights": torch.randn(200), "step": 3})
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(0, len(whole) - TRAILER, 13)]
    for place in range(0, len(whole) - TRAILER, 11):
        damaged.append(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"training.pt: expected a training checkpoint, got a file that cannot be"):
            load_checkpoint(path)
    path.write_bytes(whole)
    assert load_checkpoint(path)["step"] == 3


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "training.pt"
    save_checkpoint(path, {"step": 3})

    def refuse(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoint.torch, "load", refuse)
    with pytest.raises(ValueError, match=r"training.pt: expected a training checkpoint, .*Input/output error"):
        load_checkpoint(path)


class Evil:
    def __reduce__(self) -> tuple:
        return os.mkdir, (os.environ["EVIL"],)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_nothing_in_a_file_is_executed(writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "trace"
    monkeypatch.setenv("EVIL", str(trace))
    path = tmp_path / "training.pt"
    if writer == "torch":
        torch.save({"model": Evil()}, path)
    else:
        path.write_bytes(pickle.dumps({"model": Evil()}, protocol=2))
    with pytest.raises(ValueError, match="expected a training checkpoint"):
        load_checkpoint(path)
    assert not trace.exists()
