"""Videos of held-out scenes, generated while the world model is trained."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.pipelines.output import Gaia2PipelineOutput
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.scene import Scene
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.training.learner import Learner
from gaia2.training.loop import TrainingLoop
from gaia2.training.sampling import step_generator
from gaia2.viz.contact_sheet import contact_sheet


def write_videos(
    learner: Learner,
    tokenizer: VideoTokenizer,
    scenes: list[Scene],
    loop: TrainingLoop,
    step: int,
    *,
    seed: int = 0,
    num_inference_steps: int = 20,
) -> None:
    """Generate scenes from the averaged weights, always from the same noise; all ranks take part.

    They go to `videos/` in the folder of the run, as mp4 and as a sheet of pictures, which TensorBoard shows too.
    """
    assert learner.average is not None
    folder = loop.options.out / "videos"
    pipe = Gaia2Pipeline(vae=tokenizer, transformer=cast("WorldModel", learner.model), scheduler=FlowMatchScheduler())
    pipe.set_progress_bar_config(disable=True)
    for number, scene in enumerate(scenes):
        noise = step_generator(seed, number)
        with learner.average.applied(), torch.compiler.set_stance("force_eager"):
            output = pipe(scene, num_inference_steps=num_inference_steps, generator=noise)
        assert isinstance(output, Gaia2PipelineOutput)
        if loop.log is not None:
            output.save_video(folder / f"step-{step:09d}-{number}.mp4", index=0)
            sheet = folder / f"step-{step:09d}-{number}.png"
            loop.log.show(step, f"scene-{number}", contact_sheet(sheet, _to_pixels(output.frames[0]), scene.rig.names))


def _to_pixels(frames: Any) -> np.ndarray:
    """Frames in [0, 1] as uint8."""
    return (np.asarray(frames) * 255).round().astype(np.uint8)
