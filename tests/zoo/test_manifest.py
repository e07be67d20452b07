"""The manifest of a folder of weights notices every change."""

from __future__ import annotations

import hashlib
import json

import pytest

import gaia2
from gaia2.zoo.manifest import MANIFEST, check_manifest, write_manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "weights.bin").write_bytes(b"weights")
    (tmp_path / "index.json").write_text("{}")
    write_manifest(tmp_path, {"commit": "0123abc", "options": {"steps": 3}})
    return tmp_path


def test_it_holds_the_facts_and_the_hashes(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["commit"] == "0123abc"
    assert manifest["options"] == {"steps": 3}
    assert manifest["files"] == {
        "index.json": hashlib.sha256(b"{}").hexdigest(),
        "vae/weights.bin": hashlib.sha256(b"weights").hexdigest(),
    }
    assert check_manifest(folder) == manifest


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("vae/weights.bin", b"weightz", "has changed"),
        ("vae/weights.bin", None, "is missing"),
        ("vae/more.bin", b"", "was added"),
    ],
)
def test_every_change_is_named(folder, name, content, what):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"^{name}: expected the files that manifest.json lists, but it {what}"):
        check_manifest(folder)


def test_a_folder_without_one_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the manifest of the weights"):
        check_manifest(tmp_path)


def test_the_default_model_is_what_its_manifest_says():
    manifest = check_manifest(gaia2.default_model())
    assert {"commit", "versions", "options", "figures", "files"} <= manifest.keys()
