from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.filesystem import FileSystemWriter

from gaia2.training.run_checkpoints import RunCheckpoints, load_tensors, tensor_sizes


def saved(folder: Path, *steps: int, **options: Any) -> RunCheckpoints:
    checkpoints = RunCheckpoints(folder, **options)
    for step in steps:
        checkpoints.save(step, {"weights": torch.full((3, 2), float(step))}, {"seed": step})
    checkpoints.finish()
    return checkpoints


def newest_value(folder: Path) -> tuple[int, float] | None:
    last, weights = RunCheckpoints(folder).newest(), torch.zeros(3, 2)
    if last is None:
        return None
    RunCheckpoints(folder).load(last, {"weights": weights})
    assert (weights == weights[0, 0]).all()
    return last.facts["seed"], weights[0, 0].item()


def steps_on_disk(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.iterdir())


def test_the_newest_one_is_found_and_the_tensors_may_change_meanwhile(tmp_path: Path) -> None:
    assert newest_value(tmp_path) is None
    checkpoints, weights = RunCheckpoints(tmp_path), torch.full((3, 2), 9.0)
    checkpoints.save(9, {"weights": weights}, {"seed": 9})
    weights.zero_()
    checkpoints.finish()
    assert newest_value(tmp_path) == (9, 9.0)
    saved(tmp_path, 10)
    assert newest_value(tmp_path) == (10, 10.0)


def test_the_last_and_some_for_good_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3, 4, 5, 6, 7, keep_last=2, keep_every=3)
    assert steps_on_disk(tmp_path) == [3, 6, 7]


@pytest.mark.parametrize("missing", ["training.json", "rank-0.json"])
def test_half_written_ones_are_passed_over_and_removed_later(missing: str, tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    (tmp_path / "step-000000002" / missing).unlink()
    assert newest_value(tmp_path) == (1, 1.0)
    saved(tmp_path, 2)
    assert newest_value(tmp_path) == (2, 2.0)
    (tmp_path / "step-000000001" / "rank-0.json").unlink()
    saved(tmp_path, 3)
    assert steps_on_disk(tmp_path) == [2, 3]


def test_of_two_ranks_both_have_to_have_written(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    facts = tmp_path / "step-000000002" / "training.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "ranks": 2}))
    assert newest_value(tmp_path) == (1, 1.0)


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp"])
def test_a_damaged_one_is_passed_over_with_a_message(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, 1, 2)
    file = tmp_path / "step-000000002" / name
    whole = file.read_bytes()
    for place in (0, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert newest_value(tmp_path) == (1, 1.0)
        assert f"{file}: its checksum is wrong; the checkpoint of step 2 is passed over" in capsys.readouterr().out
    file.write_bytes(whole)
    assert newest_value(tmp_path) == (2, 2.0)


def test_all_damaged(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    (tmp_path / "step-000000001" / "__0_0.distcp").write_bytes(b"")
    with pytest.raises(ValueError, match=r"expected a checkpoint that is whole, got 1 whose checksums are all wrong"):
        newest_value(tmp_path)


def test_a_full_disk_leaves_the_last_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, 1)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FileSystemWriter, "write_data", full)
    message = (
        r"step-000000002: the checkpoint could not be written: .*No space left.*, with \S+ GB free there; "
        r"the last whole one is of step 1. "
    )
    with pytest.raises(RuntimeError, match=message):
        saved(tmp_path, 2)
    assert newest_value(tmp_path) == (1, 1.0)


def test_other_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "step-000000001"
    saved(tmp_path, 1)
    assert tensor_sizes(path) == {"weights": torch.Size([3, 2])}
    with pytest.raises(ValueError, match=r"expected weights of \(2, 2\), got \(3, 2\); go on with the options"):
        load_tensors(path, {"weights": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match=r"expected bias of \(2,\), got none"):
        load_tensors(path, {"bias": torch.zeros(2)})


class Evil:
    def __reduce__(self) -> tuple:
        return os.mkdir, (os.environ["EVIL"],)


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVIL", str(tmp_path / "trace"))
    saved(tmp_path, 1)
    path = tmp_path / "step-000000001"
    (path / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match=r".metadata: expected a checkpoint's table of contents, got .*mkdir"):
        tensor_sizes(path)
    assert not (tmp_path / "trace").exists()
