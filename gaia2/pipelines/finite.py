"""Whether what was made is finite: looked at once, when it is made, and the likely cause named."""

from __future__ import annotations

from typing import Any

import torch

USUAL_SCALE = 20.0


def check_finite(name: str, made: torch.Tensor, pipe: Any, guidance_scale: float | None = None) -> None:
    """Check what a pipeline made; waits for the device, once.

    Args:
        name: What it is.
        made: Latents or frames, any axes.
        pipe: The pipeline, whose weights are looked at if there is something wrong.
        guidance_scale: With which it was made, where that matters.

    Raises:
        ValueError: If a number is NaN or infinite; the message names the likely cause.
    """
    if made.isfinite().all():
        return
    share = 1 - made.isfinite().float().mean().item()
    raise ValueError(
        f"{name}: expected finite numbers, got NaN or infinity in {share:.0%} of them; {_cause(pipe, guidance_scale)}"
    )


def _cause(pipe: Any, guidance_scale: float | None) -> str:
    for part in ("transformer", "vae"):
        broken = [key for key, weights in getattr(pipe, part).named_parameters() if not weights.isfinite().all()]
        if broken:
            return f"the weights of the {part} are not finite ({broken[0]} and {len(broken) - 1} more): load others"
    if guidance_scale is not None and guidance_scale > USUAL_SCALE:
        return f"guidance_scale={guidance_scale:g} is far beyond the usual 2 to {USUAL_SCALE:g}"
    if pipe.dtype == torch.float16:
        return "float16 overflows: take torch.bfloat16 or torch.float32"
    return "the latents that were given, or that a callback made, or a condition far beyond those of the training"
