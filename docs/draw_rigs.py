"""Draw the named rig "surround" from above: `python docs/draw_rigs.py`."""

from __future__ import annotations

from pathlib import Path

from gaia2._files import replacing
from gaia2.scene import named_rig
from gaia2.viz.rig_plan import rig_plan

PICTURE = Path(__file__).parent / "images" / "rig_surround.svg"

if __name__ == "__main__":
    with replacing(PICTURE) as unfinished:
        unfinished.write_text(rig_plan(named_rig("surround")), encoding="utf-8")
