"""Generation as blocks of diffusers' modular pipelines, any of which can be replaced.

Four steps, one after the other: `validate` checks what the user says and makes a `Job` of it, `context` encodes given
frames, `denoise` makes the latents window by window, `decode` makes frames of them.
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any

import torch
from diffusers.configuration_utils import FrozenDict
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.modular_pipelines.modular_pipeline import (
    MODULAR_PIPELINE_MAPPING,
    ModularPipeline,
    ModularPipelineBlocks,
    PipelineState,
    SequentialPipelineBlocks,
)
from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec, ConfigSpec, InputParam, OutputParam
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from gaia2._registration import register
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.pipelines.guidance import Guidance, check_default_scale
from gaia2.pipelines.output import to_output
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.pipelines.rollout import Rollout
from gaia2.pipelines.sampling import Sampling
from gaia2.schedulers.flow_match import FlowMatchScheduler

MODEL_NAME = "gaia2"
TASKS = ("Gaia2Pipeline", "Gaia2EditPipeline", "Gaia2InpaintPipeline")
_MODELS = (ComponentSpec("vae", VideoTokenizer), ComponentSpec("transformer", WorldModel))
_PROMPTS = (ComponentSpec("text_encoder", CLIPTextModelWithProjection), ComponentSpec("tokenizer", CLIPTokenizer))


def _guider(scale: float) -> ComponentSpec:
    """Plain classifier-free guidance."""
    config = FrozenDict({"guidance_scale": scale})
    return ComponentSpec("guider", ClassifierFreeGuidance, config=config, default_creation_method="from_config")


class Step(ModularPipelineBlocks):
    """A step of a generation: reads its inputs from the state, and writes its outputs to it.

    A step of your own is a subclass with `inputs`, `intermediate_outputs`, `expected_components` and `run`.
    """

    model_name = MODEL_NAME

    def run(self, pipe: Gaia2Pipeline, block_state: Any) -> None:
        """Do the step.

        Args:
            pipe: The components, with the methods of `Gaia2Pipeline`.
            block_state: Has the inputs as attributes, and gets the outputs.
        """
        raise NotImplementedError(f"{type(self).__name__}.run: expected a step that says what it does")

    @torch.no_grad()
    def __call__(self, components: Gaia2ModularPipeline, state: PipelineState) -> Any:
        """Run the step on the state of a pipeline, as diffusers calls it."""
        block_state = self.get_block_state(state)
        self.run(components.task, block_state)
        self.set_block_state(state, block_state)
        return components, state


class ValidateStep(Step):
    """Checks what the user says before anything is computed; see `Gaia2PipelineBase.validate`."""

    @property
    def description(self) -> str:
        """What the step does."""
        return "Checks scenes and options, and brings them together in a job."

    @property
    def expected_components(self) -> list[ComponentSpec]:
        """The models, the scheduler whose grid is laid, and the guider that brings the branches together."""
        return [*_MODELS, ComponentSpec("scheduler", FlowMatchScheduler), _guider(1.0), *_PROMPTS]

    @property
    def expected_configs(self) -> list[ConfigSpec]:
        """What the checkpoint says of guidance."""
        return [ConfigSpec("default_guidance_scale", 1.0, "Scale that the guider begins with; 1 is no guidance.")]

    @property
    def inputs(self) -> list[InputParam]:
        """What to generate, and how to sample it; see `Gaia2Pipeline`."""
        return [
            InputParam("scene", required=True, description="A Scene, or a list of scenes of one length and rig."),
            InputParam("num_videos_per_scene", type_hint=int, default=1),
            InputParam("num_inference_steps", type_hint=int, default=50),
            InputParam("timesteps", description="Flow times of your own in place of the scheduler's grid."),
            InputParam("guidance_on", description="Conditions that the guider's other branch does without."),
            InputParam("guidance_region", type_hint=str, description="'agents': under the agents' boxes only."),
            InputParam("num_context_latents", type_hint=int),
            InputParam("image_size", description="Pixels (height, width)."),
            InputParam("generator"),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """The job, and the scenes as they are used."""
        return [OutputParam("job", description="What a Rollout makes."), OutputParam("scenes", type_hint=list)]

    def run(self, pipe: Gaia2Pipeline, block_state: Any) -> None:
        """Validate."""
        said = block_state
        guidance = Guidance(1.0, said.guidance_on, region=said.guidance_region, guider=pipe.guider)
        sampling = Sampling(
            said.num_inference_steps,
            said.timesteps,
            guidance=guidance,
            num_context_latents=said.num_context_latents,
        )
        said.job = pipe.validate(
            said.scene,
            sampling,
            num_videos_per_scene=said.num_videos_per_scene,
            image_size=said.image_size,
            generator=said.generator,
        )
        said.scenes = said.job.scenes


class ContextStep(Step):
    """Encodes the first frames of the video, where they are given."""

    @property
    def description(self) -> str:
        """What the step does."""
        return "Encodes the first frames, where they are given."

    @property
    def expected_components(self) -> list[ComponentSpec]:
        """The tokenizer, and the world model for the length of its window."""
        return list(_MODELS)

    @property
    def inputs(self) -> list[InputParam]:
        """The job, and the frames."""
        return [InputParam("job", required=True), InputParam("context", description="The first frames; optional.")]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """Normalised latents of the frames, None without them."""
        return [OutputParam("context_latents", type_hint=torch.Tensor)]

    def run(self, pipe: Gaia2Pipeline, block_state: Any) -> None:
        """Encode."""
        block_state.context_latents = pipe.encode_context(block_state.job, block_state.context)


class DenoiseStep(Step):
    """Makes the latents from noise, window by window; see `Rollout`."""

    @property
    def description(self) -> str:
        """What the step does."""
        return "Denoises latents, window by window."

    @property
    def expected_components(self) -> list[ComponentSpec]:
        """The models, and CLIP for prompts."""
        return [*_MODELS, *_PROMPTS]

    @property
    def inputs(self) -> list[InputParam]:
        """The job, and the latents that are given."""
        return [InputParam("job", required=True), InputParam("context_latents")]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """Normalised latents of the whole video."""
        return [OutputParam("latents", type_hint=torch.Tensor, description="(b, t, n, h, w, c)")]

    def run(self, pipe: Gaia2Pipeline, block_state: Any) -> None:
        """Denoise."""
        rollout = Rollout(pipe, block_state.job)
        given = rollout.start(block_state.context_latents)
        block_state.latents = torch.cat([given, *rollout.run()], dim=1)


class DecodeStep(Step):
    """Makes frames of the latents."""

    @property
    def description(self) -> str:
        """What the step does."""
        return "Decodes latents to frames."

    @property
    def expected_components(self) -> list[ComponentSpec]:
        """The tokenizer."""
        return [_MODELS[0]]

    @property
    def inputs(self) -> list[InputParam]:
        """The latents, and the form of the frames."""
        return [
            InputParam("latents", required=True),
            InputParam("output_type", type_hint=str, default="np", description="'np', 'pt' or 'pil'."),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """The video of all cameras."""
        return [OutputParam("frames", description="As in Gaia2PipelineOutput.")]

    def run(self, pipe: Gaia2Pipeline, block_state: Any) -> None:
        """Decode sample by sample, so that memory does not grow with the batch."""
        decoded = torch.cat([pipe.decode_latents(sample) for sample in block_state.latents.split(1)])
        block_state.frames = to_output(decoded, block_state.output_type)


@register
class Gaia2Blocks(SequentialPipelineBlocks):
    """Generation from scratch and from context, in blocks.

    Example:
        >>> import gaia2
        >>> class LastFrame(DecodeStep):
        ...     def run(self, pipe, block_state):
        ...         super().run(pipe, block_state)
        ...         block_state.frames = block_state.frames[:, -1:]
        >>> blocks = Gaia2Blocks()
        >>> blocks.sub_blocks["decode"] = LastFrame()
        >>> pipe = blocks.init_pipeline(gaia2.default_model())
        >>> pipe.load_components()
        >>> pipe.set_progress_bar_config(disable=True)
        >>> scene = gaia2.Scene.create("front", num_frames=8)
        >>> pipe(scene=scene, num_inference_steps=1, output="frames").shape
        (1, 1, 1, 64, 128, 3)
    """

    model_name = MODEL_NAME
    block_classes = [ValidateStep, ContextStep, DenoiseStep, DecodeStep]
    block_names = ["validate", "context", "denoise", "decode"]

    @property
    def description(self) -> str:
        """What the blocks do."""
        return "Generates multi-camera driving video that obeys a scene."

    @property
    def outputs(self) -> list[OutputParam]:
        """The frames and the scenes that they show."""
        return [OutputParam("frames"), OutputParam("scenes", type_hint=list)]


@register
class Gaia2ModularPipeline(ModularPipeline):
    """Runs `Gaia2Blocks`, or blocks of your own, on the components of a checkpoint.

    `ModularPipeline.from_pretrained(folder)` gives it for a folder that `Gaia2Pipeline` saved. Guidance is the
    component `guider`, plain classifier-free guidance of the checkpoint's `default_guidance_scale` unless another one
    is put in its place.

    Raises:
        ValueError: If that scale is out of range.

    Example:
        >>> import gaia2
        >>> from diffusers import ClassifierFreeGuidance, ModularPipeline
        >>> pipe = ModularPipeline.from_pretrained(gaia2.default_model())
        >>> pipe.load_components()
        >>> pipe.update_components(guider=ClassifierFreeGuidance(guidance_scale=3.0))
        >>> pipe.set_progress_bar_config(disable=True)
        >>> scene = gaia2.Scene.create("front", num_frames=8, weather="snow")
        >>> pipe(scene=scene, num_inference_steps=1, output="frames").shape
        (1, 8, 1, 64, 128, 3)
    """

    default_blocks_name = "Gaia2Blocks"
    _progress_bar_config: dict[str, Any]

    def __init__(
        self,
        blocks: Any = None,
        pretrained_model_name_or_path: str | PathLike[str] | None = None,
        *,
        config_dict: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        path = None if pretrained_model_name_or_path is None else fspath(pretrained_model_name_or_path)
        super().__init__(blocks, path, config_dict=_without_nothing(config_dict), **kwargs)
        scale = check_default_scale(self.config.get("default_guidance_scale", 1.0))
        guiders = [spec for spec in self._blocks.expected_components if spec.name == "guider"]
        # a user's blocks may begin with another one
        if scale != 1 and guiders and guiders[0].config == _guider(1.0).config:
            self.update_components(guider=_guider(scale).create())

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str], **kwargs: Any) -> Gaia2ModularPipeline:
        """The pipeline of a folder or repo; `load_components` loads what it needs. Options are diffusers' own."""
        return cls(None, pretrained_model_name_or_path, **kwargs)

    @classmethod
    def _load_pipeline_config(cls, *args: Any, **kwargs: Any) -> Any:
        modular, plain = super()._load_pipeline_config(*args, **kwargs)
        return modular, _without_nothing(plain)

    def set_progress_bar_config(self, **kwargs: Any) -> None:
        """Options of tqdm, as of `DiffusionPipeline`."""
        self._progress_bar_config = kwargs

    @property
    def task(self) -> Gaia2Pipeline:
        """The components as a `Gaia2Pipeline`, for the blocks.

        Raises:
            ValueError: If a component is missing.
        """
        parts: dict[str, Any] = {name: getattr(self, name, None) for name in ("vae", "transformer", "scheduler")}
        missing = [name for name, part in parts.items() if part is None]
        if missing:
            raise ValueError(
                f"components: expected {', '.join(parts)}, got no {' and no '.join(missing)}; call load_components"
            )
        prompts: dict[str, Any] = {name: getattr(self, name, None) for name in ("text_encoder", "tokenizer")}
        scale = self.config.get("default_guidance_scale", 1.0)
        pipe = Gaia2Pipeline(**parts, **prompts, default_guidance_scale=scale)
        pipe.guider = getattr(self, "guider", None)
        pipe.set_progress_bar_config(**getattr(self, "_progress_bar_config", {}))
        return pipe


def _without_nothing(config: dict[str, Any] | None) -> dict[str, Any] | None:
    """A pipeline's config less the components that it does without, which nobody could load."""
    return None if config is None else {name: value for name, value in config.items() if value != [None, None]}


def _class_of_unnamed(config_dict: dict[str, Any] | None = None) -> str:
    """Name of the modular pipeline for what diffusers has no model name for: checkpoints of ours, and anything else."""
    ours = config_dict is not None and config_dict.get("_class_name") in TASKS
    return Gaia2ModularPipeline.__name__ if ours else ModularPipeline.__name__


MODULAR_PIPELINE_MAPPING[MODEL_NAME] = lambda config_dict=None: Gaia2ModularPipeline.__name__
MODULAR_PIPELINE_MAPPING.setdefault(None, _class_of_unnamed)
