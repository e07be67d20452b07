"""Flow matching: the path between noise and data, the steps of sampling and the times of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.schedulers.diffusers_adapter import DiffusersFlowAdapter as DiffusersFlowAdapter
    from gaia2.schedulers.flow_match import FlowMatchScheduler as FlowMatchScheduler
    from gaia2.schedulers.linear_quadratic import linear_quadratic_schedule as linear_quadratic_schedule
    from gaia2.schedulers.path import interpolate as interpolate
    from gaia2.schedulers.path import velocity as velocity
    from gaia2.schedulers.time_sampling import BimodalLogitNormal as BimodalLogitNormal

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "BimodalLogitNormal": "gaia2.schedulers.time_sampling",
        "DiffusersFlowAdapter": "gaia2.schedulers.diffusers_adapter",
        "FlowMatchScheduler": "gaia2.schedulers.flow_match",
        "interpolate": "gaia2.schedulers.path",
        "linear_quadratic_schedule": "gaia2.schedulers.linear_quadratic",
        "velocity": "gaia2.schedulers.path",
    },
)
