"""Arguments that other pipelines have and these have not: what to write in their place."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

_SCENE = "say it in the scene"
HINTS = {
    "prompt": f"{_SCENE}: Scene.create(prompt=...), or better weather=, time_of_day=, agents=, ...",
    "negative_prompt": "there is none; guidance_scale= follows the conditions more closely, guidance_on= some of them",
    "height": "image_size=(height, width)",
    "width": "image_size=(height, width)",
    "num_frames": f"{_SCENE}: Scene.create(num_frames=...)",
    "video_length": f"{_SCENE}: Scene.create(num_frames=...)",
    "frame_rate": f"{_SCENE}: Scene.create(frame_rate=...)",
    "fps": f"{_SCENE}: Scene.create(frame_rate=...)",
    "seed": "generator=torch.Generator().manual_seed(seed)",
    "steps": "num_inference_steps=",
    "num_steps": "num_inference_steps=",
    "cfg": "guidance_scale=",
    "cfg_scale": "guidance_scale=",
    "image": "context=, frames that the video begins with; to change given frames use Gaia2EditPipeline",
    "video": "context=, frames that the video begins with; to change given frames use Gaia2EditPipeline",
    "mask": "use Gaia2InpaintPipeline",
    "mask_image": "use Gaia2InpaintPipeline",
    "num_videos_per_prompt": "num_videos_per_scene=",
    "num_images_per_prompt": "num_videos_per_scene=",
    "batch_size": "num_videos_per_scene=, or a list of scenes",
    "sigmas": "timesteps=, flow times that rise from 0 (noise) to 1 (data)",
    "eta": "FlowMatchScheduler(stochasticity=...)",
    "callback": "callback_on_step_end=",
    "callback_steps": "callback_on_step_end=, which is called after each step",
    "speed": f"{_SCENE}: Scene.create(speed=...)",
    "curvature": f"{_SCENE}: Scene.create(curvature=...)",
    "weather": f"{_SCENE}: Scene.create(weather=...)",
    "time_of_day": f"{_SCENE}: Scene.create(time_of_day=...)",
    "rig": f"{_SCENE}: Scene.create(rig=...)",
    "agents": f"{_SCENE}: Scene.create(agents=...)",
    "device": "pipe.to(device) before the call",
    "dtype": "from_pretrained(..., dtype=...)",
    "torch_dtype": "from_pretrained(..., dtype=...)",
}
"""What to write in place of an argument."""


def explain_unknown(call: F) -> F:
    """Method decorator: an argument that the method has not is refused with what to write in its place.

    Args:
        call: The method.

    Returns:
        The same, which raises a TypeError that says more than Python's.

    Example:
        >>> class Camera:
        ...     @explain_unknown
        ...     def take(self, image_size): ...
        >>> Camera().take(height=64)
        Traceback (most recent call last):
        ...
        TypeError: height: expected an argument that take has, got 'height'; image_size=(height, width)
    """
    known = [name for name in inspect.signature(call).parameters if name != "self"]

    @functools.wraps(call)
    def explained(self: Any, *args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                advice = HINTS.get(name) or (f"did you mean {near[0]}=?" if near else f"it has {', '.join(known)}")
                raise TypeError(f"{name}: expected an argument that {call.__name__} has, got {name!r}; {advice}")
        return call(self, *args, **kwargs)

    return cast("F", explained)
