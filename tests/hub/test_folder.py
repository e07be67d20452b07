"""What of a folder is published: nothing that is private, no pickle, and nothing that has no business there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gaia2.hub.facts import read_facts
from gaia2.hub.folder import contents
from gaia2.hub.safetensors_header import count, read_header
from gaia2.hub.shards import parse_size, write_weights
from gaia2.hub.staging import CardOptions, stage


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder as small as one can be."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"_class_name": "VideoTokenizer"}')
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(5, dtype=torch.bfloat16), "n": torch.tensor([7])}
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    return folder


def test_logs_caches_and_hidden_files_stay_at_home(model: Path) -> None:
    for name in (".env", "events.log", "__pycache__/a.json", ".git/config.json", "scalars.jsonl", "LICENSE", "a.png"):
        path = model / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    found = contents(model)
    assert found.files.keys() == {"LICENSE", "a.png", "config.json", "diffusion_pytorch_model.safetensors"}
    assert set(found.left_out) == {".env", "events.log", "__pycache__/a.json", ".git/config.json", "scalars.jsonl"}
    assert found.total == sum((model / name).stat().st_size for name in found.files)
    assert "left out  .env" in str(found)


SECRETS = {
    "a token of the hub": '{"token": "hf_' + "aB3" * 12 + '"}',
    "a token of GitHub": "ghp_" + "a1B2" * 9,
    "a key of AWS": '{"id": "AKIA' + "ABCD" * 4 + '"}',
    "a token of Slack": "xoxb-1234567890-abcdef",
    "a secret key": "key: sk-" + "a1" * 20,
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE",
    "a signed token": "eyJhbGciOiJIUzI1NiIsInR5.eyJzdWIiOiIxMjM0NTY3.SflKxwRJSMeKKF2QT4fwpM",
    "a password in an address": "https://me:swordfish@example.org/data",
    "a password": '{"password": "swordfish"}',
    "a path of your computer": '{"data": "/home/alice/clips"}',
}


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("name", ["README.md", "vae/config.json", "notes.txt", "sample.png"])
def test_secrets_are_found_and_not_repeated(model: Path, kind: str, name: str) -> None:
    path = model / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("first\n" + SECRETS[kind])
    with pytest.raises(
        ValueError, match=f"{name}: expected nothing private in what is published, got {kind} in li"
    ) as e:
        contents(model)
    assert "swordfish" not in str(e.value)
    assert "alice" not in str(e.value)
    assert "line 2" in str(e.value)


def test_a_secret_in_the_header_of_weights(model: Path) -> None:
    save_file({"a": torch.ones(1)}, model / "b.safetensors", metadata={"note": SECRETS["a token of the hub"]})
    with pytest.raises(ValueError, match=r"b\.safetensors: expected nothing private .*, got a token of the hub"):
        contents(model)


def test_ordinary_words_are_no_secrets(model: Path) -> None:
    (model / "README.md").write_text(
        'pad_token: "<|endoftext|>" https://example.org/a@b the token is one that may write; password: no\n'
        "sk-learn, hf_hub, api_key=None, the data lies in /data/clips, /home is where it is\n"
    )
    (model / "tokenizer_config.json").write_text('{"unk_token": "<|endoftext|>", "eos_token_id": 49407}')
    contents(model)


@pytest.mark.parametrize("name", ["a.bin", "x/b.pt", "c.PTH", "d.ckpt", "e.pkl", "f.pickle", "g.joblib"])
def test_pickles_are_refused(model: Path, name: str) -> None:
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_bytes(b"")
    with pytest.raises(ValueError, match=f"expected safetensors and no pickle, got {name}, which may run code"):
        contents(model)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder: expected a folder that save_pretrained wrote, got .*, which is no"):
        contents(tmp_path / "none")
    with pytest.raises(ValueError, match="which has no config in it"):
        contents(tmp_path)


@pytest.mark.parametrize("cut", [3, 60, -1])
def test_weights_that_were_cut(model: Path, cut: int) -> None:
    path = model / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"safetensors: expected .*cut"):
        read_header(path)


def test_what_a_header_says(model: Path) -> None:
    assert count(model / "diffusion_pytorch_model.safetensors") == (12, {"F32": 6, "BF16": 5, "I64": 1})


@pytest.mark.parametrize("size", [0, -1, True, "5", "5XB", "0GB", "", None, 1.5])
def test_sizes_that_are_none(size: object) -> None:
    with pytest.raises(ValueError, match="max_shard_size: expected bytes, or a size such as '5GB'"):
        parse_size(size)  # type: ignore[arg-type]


def test_shards_hold_the_same_tensors(model: Path, tmp_path: Path) -> None:
    source = model / "diffusion_pytorch_model.safetensors"
    whole = load_file(source)
    *shards, index = write_weights([source], tmp_path / "shards", 32)
    told = json.loads(index.read_text())
    found = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    assert [path.name for path in shards] == [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    assert found.keys() == whole.keys()
    assert all(found[name].dtype == own.dtype and found[name].equal(own) for name, own in whole.items())
    assert told["weight_map"] == {name: shard.name for shard in shards for name in load_file(shard)}
    assert told["metadata"]["total_size"] == 6 * 4 + 5 * 2 + 8


def test_a_variant_converts_floats_alone(model: Path, tmp_path: Path) -> None:
    source = model / "diffusion_pytorch_model.safetensors"
    (path,) = write_weights([source], tmp_path, "1MB", "fp16")
    assert path.name == "diffusion_pytorch_model.fp16.safetensors"
    assert {name: tensor.dtype for name, tensor in load_file(path).items()} == {
        "a": torch.float16, "b": torch.float16, "n": torch.int64,
    }  # fmt: skip
    with pytest.raises(ValueError, match="variant: expected one of fp16, bf16, fp32, got 'int8'"):
        write_weights([source], tmp_path, "1MB", "int8")


def test_small_weights_are_staged_bit_for_bit(model: Path, tmp_path: Path) -> None:
    config = {"_class_name": "VideoTokenizer", "_name_or_path": "/home/alice/model"}
    (model / "config.json").write_text(json.dumps(config))
    (model / "manifest.json").write_text(json.dumps({"commit": "0123abc", "files": {"config.json": "?"}}))
    staged = stage(model, tmp_path / "staged", "org/name")
    name = "diffusion_pytorch_model.safetensors"
    assert (staged / name).read_bytes() == (model / name).read_bytes()
    assert json.loads((staged / "config.json").read_text()) == {"_class_name": "VideoTokenizer"}
    hashes = json.loads((staged / "manifest.json").read_text())["files"]
    assert hashes == {n: hashlib.sha256((staged / n).read_bytes()).hexdigest() for n in ("config.json", name)}
    assert "0123abc" in (staged / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"license": " "}, "license: expected a licence, as the hub names it"),
        ({"data": "a video"}, "data: expected a list of sentences, got 'a video'"),
        ({"pictures": ["none.png"]}, "pictures: expected files of"),
        ({"evaluation": "none.json"}, "evaluation: expected an evaluation.json of recipes/evaluate.py"),
    ],
)
def test_cards_that_cannot_be_made(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CardOptions(**options)  # type: ignore[arg-type]


def test_a_damaged_manifest_is_named(model: Path) -> None:
    (model / "manifest.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"manifest\.json: expected a JSON object, got a file that holds none"):
        read_facts(model)
