"""Publishing and loading again, against a hub that speaks the protocol, with the genuine client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, constants
from huggingface_hub.utils import close_session

import gaia2
from gaia2 import FlowMatchScheduler, Gaia2EditPipeline, Gaia2Pipeline, VideoTokenizer, WorldModel
from gaia2.hub.publishing import Destination, publish
from gaia2.hub.staging import CardOptions, stage
from tests.hub.server import Hub
from tests.pipelines.helpers import pipeline, scene, seeded

WEIGHTS = "diffusion_pytorch_model.safetensors"


def video(pipe: Any) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    return pipe(scene(8, "front"), num_inference_steps=2, generator=seeded(), output_type="pt").frames


def assert_same(one: Any, other: Any) -> None:
    """The same weights to the bit. Those of shards lie elsewhere in memory, where products may round otherwise."""
    for part in ("transformer", "vae"):
        own, others = getattr(one, part).state_dict(), getattr(other, part).state_dict()
        assert own.keys() == others.keys()
        assert all(own[key].equal(others[key]) for key in own)
    torch.testing.assert_close(video(one), video(other), atol=2e-6, rtol=0)


def files(hub: Hub, repo_id: str, revision: str = "main") -> dict[str, int]:
    commit = hub.repositories[repo_id].at(revision)
    assert commit is not None
    return {path: entry.size for path, entry in commit.files.items()}


def test_a_pipeline_comes_back_as_it_went(logged_in: Hub) -> None:
    pipe = pipeline()
    url = pipe.push_to_hub("lab/small", tag="v1")
    assert url.endswith(f"/lab/small/commit/{logged_in.repositories['lab/small'].tags['v1']}")
    assert logged_in.seen["POST commit"] == 1  # nobody sees half a version
    expected = video(pipe)
    for cls in (Gaia2Pipeline, Gaia2EditPipeline):
        again = cls.from_pretrained("lab/small")
        assert video(Gaia2Pipeline.from_pipe(again)).equal(expected)
    asked = {name.split(" ")[1] for name in logged_in.seen}
    assert asked >= {
        "whoami", "create", "validate-yaml", "preupload", "batch", "file", "verify", "commit", "tag", "info", "tree",
        "resolve", "download",
    }  # fmt: skip


def test_models_and_schedulers_are_pushed_alone(logged_in: Hub) -> None:
    pipe = pipeline()
    for name, part, cls in (
        ("vae", pipe.vae, VideoTokenizer),
        ("transformer", pipe.transformer, WorldModel),
        ("scheduler", pipe.scheduler, FlowMatchScheduler),
    ):
        part.push_to_hub(f"lab/{name}")
        again = cls.from_pretrained(f"lab/{name}")
        assert type(again) is cls
        assert "library_name: gaia2" in card(logged_in, f"lab/{name}")
        if name != "scheduler":
            own = part.state_dict()
            assert all(own[key].equal(value) for key, value in again.state_dict().items())
    pipe.push_to_hub("lab/small")
    assert isinstance(VideoTokenizer.from_pretrained("lab/small", subfolder="vae"), VideoTokenizer)


def card(hub: Hub, repo_id: str) -> str:
    commit = hub.repositories[repo_id].at("main")
    assert commit is not None
    entry = commit.files["README.md"]
    return (hub.large[entry.sha256] if entry.sha256 else entry.content or b"").decode()


def test_save_pretrained_pushes_too(logged_in: Hub, tmp_path: Path) -> None:
    pipe = pipeline()
    pipe.save_pretrained(tmp_path / "a", push_to_hub=True, repo_id="lab/a")
    pipe.transformer.save_pretrained(tmp_path / "b", push_to_hub=True, repo_id="lab/b")
    for name in ("lab/a", "lab/b"):
        assert "library_name: gaia2" in card(logged_in, name)
    assert video(Gaia2Pipeline.from_pretrained("lab/a")).equal(video(pipe))


def test_shards_and_variants(logged_in: Hub, folder: Path, tmp_path: Path) -> None:
    staged = stage(folder, tmp_path / "staged", "lab/small", max_shard_size="20KB", variants=("bf16",))
    publish(staged, Destination("lab/small"))
    listed = files(logged_in, "lab/small")
    shards = [name for name in listed if name.startswith("transformer/") and name.endswith(".safetensors")]
    assert len(shards) > 4
    assert {f"transformer/{WEIGHTS}.index.json", f"transformer/{WEIGHTS}.index.bf16.json"} <= listed.keys()
    plain = pipeline()
    again = Gaia2Pipeline.from_pretrained("lab/small")
    assert_same(again, plain)
    half = Gaia2Pipeline.from_pretrained("lab/small", variant="bf16")
    for one, other in zip(half.transformer.parameters(), plain.transformer.parameters(), strict=True):
        assert torch.equal(one, other.bfloat16().float())
    with pytest.raises(ValueError, match="variant: expected one of 'lab/small', got 'fp16'; it has bf16"):
        Gaia2Pipeline.from_pretrained("lab/small", variant="fp16")


def test_a_new_version_replaces_the_old_and_tags_keep_it(logged_in: Hub, folder: Path, tmp_path: Path) -> None:
    publish(stage(folder, tmp_path / "a", "lab/small", max_shard_size="20KB"), Destination("lab/small", tag="v1"))
    other = pipeline()
    torch.nn.init.normal_(other.transformer.proj_out.weight)
    other.push_to_hub("lab/small", commit_message="Better")
    now, before = files(logged_in, "lab/small"), files(logged_in, "lab/small", "v1")
    assert [name for name in now if "transformer/" in name] == ["transformer/config.json", f"transformer/{WEIGHTS}"]
    assert len([name for name in before if "transformer/" in name]) > 3
    assert video(Gaia2Pipeline.from_pretrained("lab/small")).equal(video(other))
    assert_same(Gaia2Pipeline.from_pretrained("lab/small", revision="v1"), pipeline())
    assert logged_in.repositories["lab/small"].at("main").summary == "Better"  # type: ignore[union-attr]


def test_a_branch_is_made_and_leaves_main_alone(logged_in: Hub) -> None:
    pipe = pipeline()
    pipe.push_to_hub("lab/small")
    before = files(logged_in, "lab/small")
    pipe.push_to_hub("lab/small", revision="next", variant="bf16")
    assert files(logged_in, "lab/small") == before
    assert f"vae/{WEIGHTS.replace('model.', 'model.bf16.')}" in files(logged_in, "lab/small", "next")
    assert f"vae/{WEIGHTS}" in files(logged_in, "lab/small", "next")


def test_a_proposal_leaves_main_alone(logged_in: Hub) -> None:
    pipe = pipeline()
    pipe.push_to_hub("lab/small")
    before = logged_in.repositories["lab/small"].branches["main"]
    torch.nn.init.normal_(pipe.transformer.proj_out.weight)
    pipe.push_to_hub("lab/small", create_pr=True)
    assert logged_in.repositories["lab/small"].branches["main"] == before
    assert video(Gaia2Pipeline.from_pretrained("lab/small", revision="refs/pr/1")).equal(video(pipe))
    with pytest.raises(ValueError, match="create_pr: expected no revision or tag with it, got one"):
        pipe.push_to_hub("lab/small", create_pr=True, tag="v1")


def test_a_dry_run_sends_nothing_and_says_everything(hub: Hub) -> None:
    listing = pipeline().push_to_hub("lab/small", dry_run=True)
    assert not hub.seen
    pairs = [line.split(maxsplit=1) for line in listing.splitlines()]
    lines = {name: size for size, name in pairs}
    assert {"README.md", "model_index.json", f"vae/{WEIGHTS}", "scheduler/scheduler_config.json"} <= lines.keys()
    sizes = [int(size.replace(",", "")) for size in lines.values()]
    assert sum(sizes[:-1]) == sizes[-1]


def test_an_upload_that_was_cut_goes_on(logged_in: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.lfs.http_backoff", no_second_try)
    logged_in.faults.uploads_before_cut = 1
    with pytest.raises(ConnectionError, match="what was sent is kept, call it again to go on"):
        publish(folder, Destination("lab/small"))
    sent = set(logged_in.large)
    assert len(sent) == 1
    assert files(logged_in, "lab/small").keys() == {".gitattributes"}  # nobody loads half a version
    logged_in.seen.clear()
    publish(folder, Destination("lab/small"))
    assert logged_in.seen["PUT file"] == 1
    assert len(logged_in.large) == 2
    Gaia2Pipeline.from_pretrained("lab/small")


def no_second_try(method: str, url: str, **options: Any) -> Any:
    """The client tries again by itself; here it is to give up, as a process that is killed."""
    from huggingface_hub.utils import get_session

    return get_session().request(method, url, content=options.pop("data", None), **options)


def test_large_files_go_in_parts(logged_in: Hub, folder: Path) -> None:
    logged_in.part_size = 50_000
    publish(folder, Destination("lab/small"))
    assert logged_in.seen["PUT part"] > 5
    assert logged_in.seen["POST complete"] == 2
    assert video(Gaia2Pipeline.from_pretrained("lab/small")).equal(video(pipeline()))


def test_a_commit_that_fails_sends_no_file_again(logged_in: Hub, folder: Path) -> None:
    logged_in.faults.errors = 1
    with pytest.raises(ConnectionError, match="expected the hub to answer, got status 500; what was sent is kept"):
        publish(folder, Destination("lab/small"))
    logged_in.seen.clear()
    publish(folder, Destination("lab/small"))
    assert logged_in.seen["PUT file"] == 0


def test_the_same_again_changes_nothing(logged_in: Hub, folder: Path) -> None:
    first = publish(folder, Destination("lab/small"))
    assert first.contents.files.keys() == files(logged_in, "lab/small").keys() - {".gitattributes"}
    again = publish(folder, Destination("lab/small", update=True))
    assert again.commit == first.commit


def test_facts_become_the_card(logged_in: Hub) -> None:
    facts = {"commit": "0123abc", "trained_on": {"clips": "12 of them (CC0)"}, "options": {"world_model": {"steps": 7}}}
    pipeline().push_to_hub("lab/small", facts=facts, card=CardOptions("mit", ("a video (MIT)",), "Words of mine."))
    said = card(logged_in, "lab/small")
    for words in ("license: mit", "- clips: 12 of them (CC0)", "- a video (MIT)", "Words of mine.", "| world_model: "):
        assert words in said
    stored = files(logged_in, "lab/small")
    assert "manifest.json" in stored


def test_offline_and_with_a_server_gone(logged_in: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline()
    pipe.push_to_hub("lab/small", tag="v1")
    expected = video(Gaia2Pipeline.from_pretrained("lab/small"))
    Gaia2Pipeline.from_pretrained("lab/small", revision="v1")
    logged_in.seen.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert video(Gaia2Pipeline.from_pretrained("lab/small")).equal(expected)
    assert video(Gaia2Pipeline.from_pretrained("lab/small", revision="v1")).equal(expected)
    WorldModel.from_pretrained("lab/small", subfolder="transformer")
    assert not logged_in.seen
    with pytest.raises(ValueError, match="expected 'lab/never' in the cache, as HF_HUB_OFFLINE is set, got nothing"):
        Gaia2Pipeline.from_pretrained("lab/never")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    Gaia2Pipeline.from_pretrained("lab/small", local_files_only=True)
    logged_in.server.shutdown()
    logged_in.server.server_close()
    close_session()
    assert video(Gaia2Pipeline.from_pretrained("lab/small")).equal(expected)
    with pytest.raises(ConnectionError, match=r"expected 'lab/never' in the cache, or a network to http://127"):
        Gaia2Pipeline.from_pretrained("lab/never")


def test_a_private_repository_needs_its_owner(logged_in: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline().push_to_hub("lab/secret", private=True)
    assert logged_in.repositories["lab/secret"].private
    Gaia2Pipeline.from_pretrained("lab/secret")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", constants.HF_HUB_CACHE + "2")
    with pytest.raises(ValueError, match="the hub has no such public repository; check the name, or log in"):
        Gaia2Pipeline.from_pretrained("lab/secret")
    Gaia2Pipeline.from_pretrained("lab/secret", token="hf_writer")


def test_the_server_is_one_that_the_client_takes(logged_in: Hub) -> None:
    """The protocol itself: what the client asks for beside our calls."""
    api = HfApi()
    url = api.create_repo("lab/plain")
    assert url.repo_id == "lab/plain"
    assert api.create_repo("lab/plain", exist_ok=True).repo_id == "lab/plain"
    logged_in.add("lab/plain", {"a.txt": b"words", "weights/b.safetensors": b"0" * 100})
    assert {"a.txt", "weights/b.safetensors"} <= set(api.list_repo_files("lab/plain"))
    assert [info.size for info in api.get_paths_info("lab/plain", ["weights/b.safetensors", "none"])] == [100]
    assert api.file_exists("lab/plain", "a.txt")
    assert not api.file_exists("lab/plain", "b.txt")
    assert not api.repo_exists("lab/none")
    assert not api.revision_exists("lab/plain", "v1")
    assert Path(api.hf_hub_download("lab/plain", "a.txt")).read_bytes() == b"words"


def test_configs_say_nothing_of_this_computer(logged_in: Hub, folder: Path) -> None:
    pipe = Gaia2Pipeline.from_pretrained(folder)
    pipe.push_to_hub("lab/small")
    commit = logged_in.repositories["lab/small"].at("main")
    assert commit is not None
    for path, entry in commit.files.items():
        if path.endswith(".json"):
            content = entry.content if entry.content is not None else logged_in.large[entry.sha256 or ""]
            assert str(folder.parent) not in content.decode()
            json.loads(content)


def test_the_public_names() -> None:
    assert gaia2.hub.publish is publish
    assert gaia2.hub.stage is stage
