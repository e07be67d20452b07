"""The controls of the page begin as the model says."""

from __future__ import annotations

from pathlib import Path

import pytest

from gaia2.app.studio import Studio
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from tests.app.helpers import tiny_pipeline


@pytest.mark.parametrize(("own", "most"), [(1.0, 10), (2.5, 10), (20.0, 20)])
def test_guidance_begins_at_the_models_own(own: float, most: float, tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="the page needs gradio")
    from gaia2.app.page import Page

    studio = Studio(Gaia2Pipeline.from_pipe(tiny_pipeline(), default_guidance_scale=own), tmp_path)
    try:
        slider = Page(studio).guidance
        assert (slider.value, slider.maximum) == (own, most)
    finally:
        studio.close()
