"""Video files and the pixels in them: reading, writing, resizing, and the way from bytes to a model's numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.video.files import VideoWriter as VideoWriter
    from gaia2.video.files import read_video as read_video
    from gaia2.video.files import write_video as write_video
    from gaia2.video.pixels import from_uint8 as from_uint8
    from gaia2.video.pixels import to_uint8 as to_uint8
    from gaia2.video.pixels import unit_to_uint8 as unit_to_uint8
    from gaia2.video.resize import fit_frames as fit_frames

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "VideoWriter": "gaia2.video.files",
        "fit_frames": "gaia2.video.resize",
        "from_uint8": "gaia2.video.pixels",
        "read_video": "gaia2.video.files",
        "to_uint8": "gaia2.video.pixels",
        "unit_to_uint8": "gaia2.video.pixels",
        "write_video": "gaia2.video.files",
    },
)
