"""A hub of this machine, whom the client in this process speaks to, and a small pipeline to publish."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.hf_api import api
from huggingface_hub.utils import close_session

from gaia2.hub.staging import stage
from tests.hub.server import Hub, User
from tests.pipelines.helpers import pipeline

WRITER, READER, STRANGER = "hf_writer", "hf_reader", "hf_stranger"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The server; nobody is logged in, and the cache is empty."""
    users = {WRITER: User("me", ("lab",)), READER: User("me", ("lab",), may_write=False), STRANGER: User("other")}
    with Hub(users=users) as server:
        speak_to(server.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server
    close_session()


def speak_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT and HF_HUB_DISABLE_XET do before the client is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(api, "endpoint", url)
    huggingface_hub.utils.disable_progress_bars()


@pytest.fixture
def logged_in(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The server, and a token that may write to `me` and `lab`."""
    monkeypatch.setenv("HF_TOKEN", WRITER)
    return hub


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pipeline as it is published."""
    path = tmp_path_factory.mktemp("saved")
    pipeline().save_pretrained(path / "saved")
    return stage(path / "saved", path / "small", "lab/small")
