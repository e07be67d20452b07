"""Generation in blocks of diffusers' modular pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ClassifierFreeGuidance, ModularPipeline
from diffusers.configuration_utils import FrozenDict
from diffusers.modular_pipelines.modular_pipeline import MODULAR_PIPELINE_MAPPING, SequentialPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec

from gaia2 import Gaia2Blocks, Gaia2ModularPipeline, Gaia2Pipeline
from gaia2.pipelines.modular import DenoiseStep, ValidateStep
from tests.pipelines.helpers import pipeline, scene, seeded
from tests.tiny import clip

STEPS = dict(num_inference_steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipeline")
    pipeline().save_pretrained(path)
    return path


def loaded(pipe: Any) -> Any:
    pipe.load_components()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_the_blocks_give_what_the_pipeline_gives(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipe = loaded(ModularPipeline.from_pretrained(folder))
    assert type(pipe) is Gaia2ModularPipeline
    assert type(loaded(Gaia2ModularPipeline.from_pretrained(folder))) is Gaia2ModularPipeline
    assert "Failed" not in caplog.text
    whole, given = pipeline(), dict(scene=scene(40, "front"), **STEPS)
    expected = whole(given["scene"], **STEPS, generator=seeded(), output_latents=True, output_type="pt")
    state = pipe(**given, generator=seeded(), output_type="pt")
    assert torch.equal(state.get("frames"), expected.frames)
    assert torch.equal(state.get("latents"), expected.latents)
    assert state.get("scenes") == expected.scenes
    context = clip(0, 8).frames
    given |= dict(context=context, output_type="pt")
    got = pipe(**given, generator=seeded(), output="frames")
    assert torch.equal(got, whole(**given, generator=seeded()).frames)


def test_the_guider_is_a_component(folder: Path) -> None:
    pipe = loaded(ModularPipeline.from_pretrained(folder))
    pipe.update_components(guider=ClassifierFreeGuidance(guidance_scale=3.0))
    given = scene(8, "front")
    got = pipe(scene=given, **STEPS, guidance_on=("weather",), generator=seeded(), output="latents")
    expected = pipeline()(
        given, **STEPS, guidance_scale=3.0, guidance_on=("weather",), generator=seeded(), output_type="latent"
    ).frames
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_the_guider_begins_as_the_checkpoint_says(tmp_path: Path) -> None:
    whole, given = pipeline(default_guidance_scale=3.0), scene(8, "front")
    whole.save_pretrained(tmp_path / "whole")
    pipe = loaded(ModularPipeline.from_pretrained(tmp_path / "whole"))
    expected = whole(given, **STEPS, generator=seeded(), output_type="latent").frames
    torch.testing.assert_close(pipe(scene=given, **STEPS, generator=seeded(), output="latents"), expected)
    pipe.save_pretrained(str(tmp_path / "blocks"), overwrite_modular_index=True)
    again = ModularPipeline.from_pretrained(tmp_path / "blocks")
    assert again.guider.guidance_scale == again.config.default_guidance_scale == 3.0
    pipe.update_components(guider=None)
    plain = whole(given, **STEPS, guidance_scale=1, generator=seeded(), output_type="latent").frames
    assert torch.equal(pipe(scene=given, **STEPS, generator=seeded(), output="latents"), plain)


def test_a_guider_of_ones_own_blocks_stays(tmp_path: Path) -> None:
    class Wary(ValidateStep):
        @property
        def expected_components(self) -> list[ComponentSpec]:
            own = FrozenDict({"guidance_scale": 5.0})
            guider = ComponentSpec("guider", ClassifierFreeGuidance, config=own, default_creation_method="from_config")
            return [spec for spec in super().expected_components if spec.name != "guider"] + [guider]

    pipeline(default_guidance_scale=3.0).save_pretrained(tmp_path)
    blocks = Gaia2Blocks()
    blocks.sub_blocks["validate"] = Wary()
    assert blocks.init_pipeline(tmp_path).guider.guidance_scale == 5.0


def test_a_step_can_be_replaced(folder: Path) -> None:
    class Twice(DenoiseStep):
        def run(self, pipe: Gaia2Pipeline, block_state: Any) -> None:
            super().run(pipe, block_state)
            block_state.latents = 2 * block_state.latents

    blocks = Gaia2Blocks()
    plain = loaded(blocks.init_pipeline(folder))
    blocks.sub_blocks["denoise"] = Twice()
    pipe = loaded(blocks.init_pipeline(folder))
    got, expected = (p(scene=scene(8, "front"), **STEPS, generator=seeded(), output="latents") for p in (pipe, plain))
    assert torch.equal(got, 2 * expected)


def test_pipelines_of_others_stay_what_they_were() -> None:
    for of_others in (None, {"_class_name": "SomebodysPipeline"}):
        assert MODULAR_PIPELINE_MAPPING[None](of_others) == "ModularPipeline"
    assert type(SequentialPipelineBlocks.from_blocks_dict({}).init_pipeline()) is ModularPipeline
    assert MODULAR_PIPELINE_MAPPING[None]({"_class_name": "Gaia2EditPipeline"}) == "Gaia2ModularPipeline"
    assert MODULAR_PIPELINE_MAPPING["wan"]({}) == "WanModularPipeline"


def test_components_that_are_not_loaded_are_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="expected vae, transformer, scheduler, got no vae and no transformer and no"):
        ModularPipeline.from_pretrained(folder)(scene=scene(8, "front"))
