"""The page `gaia2 app`: a scene drawn by hand, generated, continued, inpainted and edited.

`form` and `drawn_agents` turn what stands in the page into a `Scene` and back, `uploads` reads what visitors hand in,
`tasks` and `worker` run the pipelines, `results` writes what came out; none of them knows gradio, `page` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.app.command import App as App
    from gaia2.app.command import Served as Served
    from gaia2.app.command import serving as serving
    from gaia2.app.drawn_agents import DrawnAgent as DrawnAgent
    from gaia2.app.form import Form as Form

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "App": "gaia2.app.command",
        "DrawnAgent": "gaia2.app.drawn_agents",
        "Form": "gaia2.app.form",
        "Served": "gaia2.app.command",
        "serving": "gaia2.app.command",
    },
)
