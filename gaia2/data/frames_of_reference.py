"""Axes by name: from the frames that other software uses (left-handed ones too) to ours."""

from __future__ import annotations

import numpy as np

__all__ = ["CAMERA_AXES", "EGO_AXES", "axes_matrix", "to_our_pose"]

CAMERA_AXES = {
    "right": (1, 0, 0),
    "left": (-1, 0, 0),
    "down": (0, 1, 0),
    "up": (0, -1, 0),
    "forward": (0, 0, 1),
    "backward": (0, 0, -1),
}
"""Directions in our camera frame, x right, y down, z forward."""

EGO_AXES = {
    "forward": (1, 0, 0),
    "backward": (-1, 0, 0),
    "left": (0, 1, 0),
    "right": (0, -1, 0),
    "up": (0, 0, 1),
    "down": (0, 0, -1),
}
"""Directions in our ego frame, x forward, y left, z up."""


def axes_matrix(name: str, words: str, directions: dict[str, tuple[int, int, int]]) -> np.ndarray:
    """Return the matrix (3, 3) that takes coordinates along named axes to ours.

    Args:
        name: What has these axes, for the message.
        words: Where x, y and z point, such as "forward-right-up".
        directions: `CAMERA_AXES` or `EGO_AXES`.

    Raises:
        ValueError: The words are not three directions at right angles.

    Example:
        >>> (axes_matrix("camera", "forward-left-up", CAMERA_AXES) @ [10.0, 1.0, 2.0]).tolist()
        [-1.0, -2.0, 10.0]
    """
    parts = words.split("-")
    columns = [directions.get(part) for part in parts]
    if len(parts) != 3 or None in columns or abs(np.linalg.det(np.array(columns, dtype=float))) != 1:
        raise ValueError(
            f"{name}: expected where x, y and z point, such as right-down-forward (OpenCV), forward-left-up (Waymo, "
            f"ROS), right-up-backward (OpenGL), forward-right-up (Unreal, left-handed), got {words!r}"
        )
    return np.array(columns, dtype=np.float64).T


def to_our_pose(pose: np.ndarray, into: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return a pose (4, 4) between frames with other axes as one between frames with ours.

    Args:
        pose: Takes points of the one frame to the other, both with their own axes.
        into: (3, 3) takes coordinates of the frame that the pose leads to, to ours.
        of: (3, 3) likewise of the frame that it comes from.

    Example:
        >>> waymo = axes_matrix("camera", "forward-left-up", CAMERA_AXES)
        >>> (to_our_pose(np.eye(4), np.eye(3), waymo) @ [0, 0, 10, 1]).tolist()  # 10 m ahead of the camera
        [10.0, 0.0, 0.0, 1.0]
    """
    ours = np.eye(4)
    ours[:3, :3] = into @ pose[:3, :3] @ of.T
    ours[:3, 3] = into @ pose[:3, 3]
    return ours
