"""Train all judges on the procedural world, and read those that come with the package.

    python -m gaia2.metrics.judge_training runs/judge

renders, trains and writes `procedural_judge.safetensors` in that folder, for pictures of 64 x 128. Rendered pictures
are kept there; call it again to go on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gaia2._checkpoint import load_checkpoint, save_checkpoint
from gaia2._files import replacing
from gaia2.metrics.detail_judge import DetailJudge
from gaia2.metrics.ground_judge import GroundJudge
from gaia2.metrics.judge_pictures import JudgePictures
from gaia2.metrics.judges import Judge
from gaia2.metrics.picture_training import new_judge, train_judge
from gaia2.metrics.street_moments import StreetMoments
from gaia2.metrics.street_training import train_details, train_ground
from gaia2.scene import METADATA

_PRIOR = "prior."


class TrainedJudge(NamedTuple):
    """All judges, and how often each value of a label was in the training of the first.

    Attributes:
        judge: Of pictures.
        priors: Log shares `(values,)` by name.
        details: Of boards and traffic lights.
        ground: Of lanes, crossings and junctions.
    """

    judge: Judge
    priors: dict[str, torch.Tensor]
    details: DetailJudge
    ground: GroundJudge

    def state(self) -> dict[str, torch.Tensor]:
        """All tensors by name."""
        state = dict(self.judge.state_dict()) | {_PRIOR + name: prior for name, prior in self.priors.items()}
        for part in ("details", "ground"):
            state |= {f"{part}.{name}": value for name, value in getattr(self, part).state_dict().items()}
        return state

    @classmethod
    def of_state(cls, state: dict[str, torch.Tensor]) -> TrainedJudge:
        """From what `state` gave, in any precision."""
        priors = {name.removeprefix(_PRIOR): v.float() for name, v in state.items() if name.startswith(_PRIOR)}
        judge, details, ground = new_judge(), DetailJudge(), GroundJudge()
        parts: tuple[tuple[str, nn.Module], ...] = (("", judge), ("details.", details), ("ground.", ground))
        for prefix, module in parts:
            own = module.state_dict()
            module.load_state_dict({name: state[prefix + name].to(value.dtype) for name, value in own.items()})
        return cls(judge.eval(), priors, details.eval(), ground.eval())


SHIPPED = Path(__file__).parent / "procedural_judge.safetensors"
SHIPPED_SIZE = (64, 128)
"""Pixels of the pictures that the judge in the package was trained on."""


def shipped_judge() -> TrainedJudge:
    """The judges that come with the package, for the procedural world at 64 x 128 pixels.

    Example:
        >>> trained = shipped_judge()
        >>> trained.judge(torch.zeros(1, 3, 64, 128)).labels["weather"].shape
        torch.Size([1, 5])
    """
    return TrainedJudge.of_state(load_file(SHIPPED))


def export_judge(trained: TrainedJudge, path: Path = SHIPPED) -> None:
    """Write judges as `shipped_judge` reads them, in half precision."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in trained.state().items()}
    with replacing(path) as unfinished:
        save_file({k: v.contiguous() for k, v in state.items()}, unfinished)


def load_or_train_judge(
    folder: Path, image_size: tuple[int, int], *, scenes: int = 1408, minutes: float = 4.0, compile: bool = False
) -> TrainedJudge:
    """Read the judges that an earlier call left in a folder, or render pictures, train them and leave them there.

    Args:
        folder: For pictures and judges.
        image_size: Height and width of the pictures.
        scenes: Scenes that the judge of pictures learns from, and as many for the two others.
        minutes: Processor time of the training of each of the first two, minutes of one core; the third takes twice
            as long.
        compile: Whether to render with compiled programs.
    """
    path = folder / "judge.pt"
    if not path.is_file():
        pictures = JudgePictures.load_or_render(folder / "judge_pictures.pt", scenes, image_size, compile=compile)
        priors = {
            name: (torch.bincount(ids, minlength=len(METADATA[name])) + 1.0).div(len(ids)).log()
            for name, ids in pictures.labels.items()
        }
        judge = train_judge(pictures, minutes=minutes)
        moments = StreetMoments.load_or_render(folder / "street_moments.pt", scenes, image_size, compile=compile)
        details, ground = train_details(moments, minutes=minutes), train_ground(moments, minutes=2 * minutes)
        trained = TrainedJudge(judge, priors, details, ground)
        save_checkpoint(path, {"judge": trained.state(), "scenes": scenes, "minutes": minutes})
    return TrainedJudge.of_state(load_checkpoint(path)["judge"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the judges that come with the package."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, help="for pictures and judges")
    parser.add_argument("--scenes", type=int, default=4096, help="scenes to learn from, twice")
    parser.add_argument(
        "--minutes", type=float, default=12.0, help="of one core for each training, and twice for the ground's"
    )
    parser.add_argument(
        "--compile-renderer", action="store_true", help="compile the picture program first: worth it for many scenes"
    )
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    trained = load_or_train_judge(
        given.folder, SHIPPED_SIZE, scenes=given.scenes, minutes=given.minutes, compile=given.compile_renderer
    )
    export_judge(trained, given.folder / SHIPPED.name)


if __name__ == "__main__":
    main()
