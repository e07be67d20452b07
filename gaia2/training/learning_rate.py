"""Learning-rate schedules of the two trainings (paper §4), as factors of the base rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial


def warmup_cooldown(step: int, *, total: int, warmup: int, cooldown: int, final: float) -> float:
    """Linear rise over `warmup` steps, flat, linear fall to `final` over the last `cooldown` steps (tokenizer).

    Example:
        >>> [warmup_cooldown(s, total=10, warmup=2, cooldown=4, final=0.1) for s in (0, 1, 5, 10)]
        [0.5, 1.0, 1.0, 0.1]
    """
    rise = min(1.0, (step + 1) / max(1, warmup))
    left = min(1.0, max(0, total - step) / max(1, cooldown))
    return rise * (final + (1 - final) * left)


def warmup_cosine(step: int, *, total: int, warmup: int, final: float) -> float:
    """Linear rise over `warmup` steps, then a cosine from 1 to `final` (world model).

    Example:
        >>> [round(warmup_cosine(s, total=10, warmup=2, final=0.1), 3) for s in (0, 1, 6, 10)]
        [0.5, 1.0, 0.55, 0.1]
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def schedule(*, total: int, warmup: int, cooldown: int | None, final: float) -> Callable[[int], float]:
    """`warmup_cooldown`, or without a cool-down `warmup_cosine`, as a function of the steps that are done.

    Example:
        >>> schedule(total=10, warmup=2, cooldown=None, final=0.1)(0)
        0.5
    """
    if cooldown is None:
        return partial(warmup_cosine, total=total, warmup=warmup, final=final)
    return partial(warmup_cooldown, total=total, warmup=warmup, cooldown=cooldown, final=final)
