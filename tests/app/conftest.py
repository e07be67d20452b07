from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from gaia2.app.command import App, Served, serving
from tests.app.helpers import ROAD, tiny_pipeline


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """A page with a tiny model."""
    pytest.importorskip("gradio", reason="the page needs gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(tiny_pipeline(metadata=ROAD), App(port=port, max_seconds=2.4, max_steps=2000)) as page:
        yield page
