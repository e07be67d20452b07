"""What goes wrong between us and a hub, each with a message that says what to do."""

from __future__ import annotations

import errno
import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from gaia2 import Gaia2Pipeline, VideoTokenizer, WorldModel
from gaia2.hub.publishing import Destination, publish
from tests.hub.conftest import READER, STRANGER
from tests.hub.server import Hub

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = {"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderKL"], "unet": ["diffusers", "UNet"]}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def published(hub: Hub, folder: Path) -> Hub:
    """A hub that has the small pipeline as `lab/small`."""
    hub.repositories.clear()
    from tests.hub.storage import Repository

    hub.repositories["lab/small"] = Repository()
    hub.add("lab/small", files_of(folder))
    return hub


def test_no_token(hub: Hub, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"token: expected one that may write to 'lab/small', got none; log in with"):
        publish(folder, Destination("lab/small"))


def test_a_token_that_nobody_has(hub: Hub, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"token: expected one that may write .*, got one that the hub refuses"):
        publish(folder, Destination("lab/small", token="hf_nobody"))


def test_a_token_that_may_only_read(hub: Hub, folder: Path) -> None:
    with pytest.raises(ValueError, match="expected one with the role 'write', got one of 'me' that may only read"):
        publish(folder, Destination("lab/small", token=READER))
    assert not hub.repositories


def test_a_namespace_of_others(hub: Hub, folder: Path) -> None:
    with pytest.raises(
        ValueError, match="expected a namespace that your token may write to, got 'lab/small'; other may write to other"
    ):
        publish(folder, Destination("lab/small", token=STRANGER))


def test_a_name_that_is_taken(published: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    with pytest.raises(ValueError, match="expected a new name, got 'lab/small', which is taken by a model of yours"):
        publish(folder, Destination("lab/small"))
    published.add("lab/small", {"README.md": b"---\nlibrary_name: diffusers\nlicense: mit\n---\n"})
    for update in (False, True):
        with pytest.raises(ValueError, match="a repository of gaia2, got 'lab/small', which is taken by one of diffus"):
            publish(folder, Destination("lab/small", update=update))
    assert published.seen["PUT file"] == 0


def test_a_tag_that_is_taken(published: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    publish(folder, Destination("lab/small", tag="v1", update=True))
    with pytest.raises(ValueError, match="tag: expected a new one, got 'v1', which 'lab/small' has already"):
        publish(folder, Destination("lab/small", tag="v1", update=True))


@pytest.mark.parametrize("name", ["", "a b", "a/b/c", "/a", "a/", "../a", "a//b", None, 3])
def test_names_that_are_none(name: Any) -> None:
    with pytest.raises(ValueError, match="repo_id: expected 'namespace/name' of letters, digits"):
        Destination(name)


def test_no_network(folder: Path, hub: Hub) -> None:
    hub.server.shutdown()
    hub.server.server_close()
    with pytest.raises(ConnectionError, match=r"lab/small: expected a network to http://127\S+, got none \(.*call it"):
        publish(folder, Destination("lab/small", token="hf_writer"))
    with pytest.raises(ConnectionError, match="connect, check HF_ENDPOINT and proxies, or name a folder"):
        VideoTokenizer.from_pretrained("lab/small", subfolder="vae")


def test_offline_publishing(folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="expected a hub that may be asked, got HF_HUB_OFFLINE; unset it"):
        publish(folder, Destination("lab/small", token="hf_writer"))


@pytest.mark.parametrize("cls", [Gaia2Pipeline, WorldModel])
def test_a_repository_that_is_not_there(published: Hub, cls: Any) -> None:
    with pytest.raises(ValueError, match="got 'lab/smal': there is no such folder, and the hub has no such pub"):
        cls.from_pretrained("lab/smal")


@pytest.mark.parametrize(("cls", "options"), [(Gaia2Pipeline, {}), (VideoTokenizer, {"subfolder": "vae"})])
def test_a_revision_that_is_not_there(published: Hub, cls: Any, options: dict[str, Any]) -> None:
    published.repositories["lab/small"].tags["v1.0"] = published.repositories["lab/small"].branches["main"]
    with pytest.raises(ValueError, match=r"revision: expected a branch, tag or commit of 'lab/small', got 'v1\.1'; d"):
        cls.from_pretrained("lab/small", revision="v1.1", **options)
    with pytest.raises(ValueError, match=r"got 'xyz'; it has main, v1\.0"):
        cls.from_pretrained("lab/small", revision="xyz", **options)


def test_a_repository_of_another_library(published: Hub) -> None:
    published.add("lab/small", {"model_index.json": json.dumps(INDEX).encode()})
    with pytest.raises(
        ValueError,
        match=r"a pipeline of gaia2, got 'lab/small', one of 'StableDiffusionPipeline' whose vae is of 'd",
    ):
        Gaia2Pipeline.from_pretrained("lab/small")
    assert published.seen["ANY download"] == 1  # the index, and no weights


def test_a_repository_without_an_index(published: Hub, folder: Path) -> None:
    published.repositories["lab/vae"] = type(published.repositories["lab/small"])()
    published.add("lab/vae", files_of(folder / "vae"))
    with pytest.raises(ValueError, match=r"got 'lab/vae', a repository without model_index.json; a single model is"):
        Gaia2Pipeline.from_pretrained("lab/vae")
    with pytest.raises(ValueError, match=r"WorldModel: expected a checkpoint of this class .*, got one of VideoTo"):
        WorldModel.from_pretrained("lab/vae")


@pytest.mark.parametrize("name", ["vae/diffusion_pytorch_model.bin", "training.pt", "transformer/a/b.pkl"])
def test_a_repository_with_a_pickle(published: Hub, name: str) -> None:
    published.add("lab/small", {name: b"cos\nsystem\n(S'true'\ntR."})
    with pytest.raises(ValueError, match=rf"'lab/small': expected safetensors and no pickle, got {name}, which may"):
        Gaia2Pipeline.from_pretrained("lab/small")
    assert published.seen["ANY download"] == published.seen["ANY resolve"] == 0
    if name.startswith("vae"):
        with pytest.raises(ValueError, match="expected safetensors and no pickle, got vae/"):
            VideoTokenizer.from_pretrained("lab/small", subfolder="vae")
    else:
        VideoTokenizer.from_pretrained("lab/small", subfolder="vae")


def test_a_folder_with_nothing_but_a_pickle(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "vae", tmp_path / "vae")
    (tmp_path / "vae" / WEIGHTS).unlink()
    torch.save({}, tmp_path / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"expected safetensors and no pickle, got diffusion_pytorch_model.bin, which"):
        VideoTokenizer.from_pretrained(tmp_path / "vae")
    with pytest.raises(ValueError, match="expected safetensors and no pickle"):
        VideoTokenizer.from_pretrained(tmp_path, subfolder="vae")
    with pytest.raises(ValueError, match="use_safetensors: expected True, got False, which reads pickles"):
        VideoTokenizer.from_pretrained(tmp_path / "vae", use_safetensors=False)


def test_a_download_that_is_cut_goes_on(published: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    published.faults.downloads_cut = 3
    VideoTokenizer.from_pretrained("lab/small", subfolder="vae")
    assert published.faults.downloads_cut == 0
    assert published.seen["ranges"] == 3  # from the byte on where it was cut


def test_a_download_that_lacks_its_end_is_noticed(published: Hub) -> None:
    published.faults.downloads_short = True
    with pytest.raises(ValueError, match=r"expected whole files from 'lab/small', got one that was cut on its way .*f"):
        Gaia2Pipeline.from_pretrained("lab/small")
    with pytest.raises(ValueError, match=r"expected whole files from 'lab/small', got one that was cut"):
        VideoTokenizer.from_pretrained("lab/small", subfolder="vae")
    published.faults.downloads_short = False
    Gaia2Pipeline.from_pretrained("lab/small")


def test_a_file_that_was_cut_in_the_cache_is_mended(published: Hub, caplog: pytest.LogCaptureFixture) -> None:
    Gaia2Pipeline.from_pretrained("lab/small")
    (blob,) = {path.resolve() for path in Path(constants.HF_HUB_CACHE).rglob(f"vae/{WEIGHTS}")}
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-100])
    message = rf"expected {len(whole):,} bytes of vae/{WEIGHTS} of 'lab/small', got {len(whole) - 100:,} in the cache"
    with pytest.raises(ValueError, match=f"{message}, so it was cut; load it once with a network"):
        Gaia2Pipeline.from_pretrained("lab/small", local_files_only=True)
    with caplog.at_level("WARNING"):
        Gaia2Pipeline.from_pretrained("lab/small")
    assert f"{message}; downloading it again" in caplog.text
    assert blob.read_bytes() == whole
    blob.write_bytes(whole[:-100])
    VideoTokenizer.from_pretrained("lab/small", subfolder="vae")
    assert blob.read_bytes() == whole


def test_a_disk_without_room(published: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("gaia2.hub.repository.shutil.disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(OSError, match=r"cache_dir: expected [\d,]+ free bytes in .*cache, got 1,000; remove what is"):
        Gaia2Pipeline.from_pretrained("lab/small")
    assert published.seen["ANY download"] == published.seen["ANY resolve"] == 0


@pytest.mark.parametrize(("cls", "options"), [(Gaia2Pipeline, {}), (VideoTokenizer, {"subfolder": "vae"})])
def test_a_disk_that_fills_up(
    published: Hub, cls: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(
        OSError, match=r"cache_dir: expected more free space in .*cache, got none left; remove"
    ) as error:
        cls.from_pretrained("lab/small", **options)
    assert error.value.errno == errno.ENOSPC


def test_a_gated_repository(published: Hub) -> None:
    published.repositories["lab/small"].gated = True
    with pytest.raises(ValueError, match="got 'lab/small', which is gated; ask for access on its page, then log in"):
        Gaia2Pipeline.from_pretrained("lab/small")
