"""A small pipeline for the tests of a file, and a spy on what it computes."""

from __future__ import annotations

import pytest

from gaia2.pipelines.base import Gaia2PipelineBase
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from tests.pipelines.helpers import Spy, pipeline


@pytest.fixture(scope="module")
def pipe() -> Gaia2Pipeline:
    """Files about another pipeline have a fixture of this name themselves."""
    return pipeline()


@pytest.fixture
def spy(pipe: Gaia2PipelineBase, monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(pipe, monkeypatch)
