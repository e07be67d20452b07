"""A street with traffic, for demonstrations: everything that a scene can say of it is said."""

from __future__ import annotations

import numpy as np

from gaia2.scene.agents import AGENT_CATEGORIES, Agents
from gaia2.scene.scene import Scene

_PLAIN = dict(
    country="germany",
    weather="cloudy",
    time_of_day="day",
    speed_limit=50,
    number_of_lanes=2,
    bus_lane=False,
    cycle_lane=False,
    pedestrian_crossing=False,
    traffic_light="none",
    one_way=False,
    intersection="none",
)
_TRAFFIC = (  # category, x and y at the beginning (m), speed along x in the ego's frame (m/s), yaw, length width height
    ("car", 11.0, 0.0, 0.0, 0.0, (4.5, 1.9, 1.6)),
    ("truck", 26.0, 3.5, -6.0, np.pi, (8.5, 2.5, 3.2)),
    ("pedestrian", 12.0, -6.0, -3.0, 0.0, (0.6, 0.6, 1.75)),
)


def street_with_traffic(
    num_frames: int = 24, frame_rate: float = 10.0, speed: float = 8.0, **metadata: object
) -> Scene:
    """A straight street: a car ahead, a truck that comes towards us, someone on the pavement.

    Args:
        num_frames: Frames.
        frame_rate: Frames a second.
        speed: Of the ego vehicle, m/s.
        **metadata: What else of the metadata shall be than a cloudy day in Germany.

    Example:
        >>> scene = street_with_traffic(weather="snow")
        >>> scene.agents.max_agents, scene.metadata["weather"], scene.metadata["country"]
        (3, 'snow', 'germany')
    """
    seconds = np.arange(num_frames) / frame_rate
    boxes = np.stack(
        [
            np.stack(
                [x + along * seconds, *(np.full(num_frames, v) for v in (y, size[2] / 2, *size, yaw))],
                axis=-1,
            )
            for _, x, y, along, yaw, size in _TRAFFIC
        ],
        axis=1,
    )
    categories = [AGENT_CATEGORIES.index(name) for name, *_ in _TRAFFIC]
    agents = Agents(boxes, category=np.tile(categories, (num_frames, 1)), track_id=np.tile([1, 2, 3], (num_frames, 1)))
    said = {**_PLAIN, **metadata}
    return Scene.create("surround", num_frames, frame_rate, speed=speed, agents=agents, **said)  # type: ignore[arg-type]
