"""How far the videos of few steps end from the teacher's of many, for distill.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from gaia2.conditioning.condition import Conditioning
from gaia2.training.few_steps import Velocity, distance, follow, frozen_velocity
from gaia2.training.learner import Learner
from gaia2.training.loop import TrainingLoop
from gaia2.training.precision import autocast
from gaia2.training.sampling import sample_normal, step_generator
from gaia2.training.world_model_data import Source

if TYPE_CHECKING:
    from distill import Distillation

SEED = 654
"""Of the noise that the videos begin with."""


class Comparison:
    """How far videos of few steps end from the teacher's of many: held-out scenes, all conditions, the same noise.

    The teacher's ends are computed once in a run.
    """

    def __init__(self, distillation: Distillation, learner: Learner, source: Source) -> None:
        self.of, self.learner, self.source = distillation, learner, source
        recipe = distillation.recipe
        self.steps = sorted({*recipe.compared_steps, recipe.num_inference_steps})
        self._teachers: tuple[list[torch.Tensor], dict[int, float]] | None = None

    def write(self, loop: TrainingLoop, step: int) -> None:
        """Log the distances of the averaged weights, beside those of the teacher."""
        assert self.learner.average is not None
        if self._teachers is None:
            with self.of.teaching(), torch.compiler.set_stance("force_eager"):
                references = self._ends(self.of.recipe.reference_steps, self.of.teacher)
                before = {steps: self._distance(references, steps, self.of.teacher) for steps in self.steps}
            self._teachers = references, before
        references, before = self._teachers
        with self.learner.average.applied(), torch.compiler.set_stance("force_eager"):
            now = {steps: self._distance(references, steps, self._student) for steps in self.steps}
        own = self.of.recipe.num_inference_steps
        figures = {f"validation_distance_{steps}": value for steps, value in now.items()}
        figures |= {f"validation_undistilled_{steps}": value for steps, value in before.items()}
        loop.write(step, {"validation_loss": now[own], **figures})
        loop.say(f"step {step}: {own} steps end {now[own]:.4f} from the teacher's many, {before[own]:.4f} undistilled")

    def _student(self, latents: torch.Tensor, conditioning: Conditioning) -> Velocity:
        h, w = latents.shape[3:5]
        return frozen_velocity(self.learner.model, conditioning, (h, w))

    def _batches(self) -> Iterator[tuple[range, torch.Tensor, Conditioning]]:
        """Numbers, noise and conditions of this rank's clips; all ranks have equally many batches."""
        ranks = self.of.ranks
        size = max(1, min(self.of.recipe.batch_size, self.of.recipe.compared_clips) // ranks.data_ranks)
        wanted = -(-min(self.of.recipe.compared_clips, self.source.num_held_out) // (size * ranks.data_ranks))
        for rows, (x, conditioning) in islice(self.source.held_out(size, ranks), wanted):
            generators = [step_generator(SEED, row) for row in rows or range(len(x))]
            yield rows, sample_normal(x.shape[1:], generators).to(x.device), conditioning

    def _ends(self, steps: int, velocity: Callable[[torch.Tensor, Conditioning], Velocity]) -> list[torch.Tensor]:
        times, recipe = self.of.grid(steps), self.of.recipe
        ends = []
        bar = tqdm(self._batches(), desc=f"videos of {steps} steps", leave=False, disable=not self.of.ranks.is_main)
        with torch.no_grad(), autocast(recipe.precision, self.of.ranks.device):
            for _, noise, conditioning in bar:
                ends.append(follow(velocity(noise, conditioning), noise, times))
        return ends

    def _distance(self, references: Sequence[torch.Tensor], steps: int, velocity: Callable[..., Velocity]) -> float:
        ends, rows = self._ends(steps, velocity), [rows for rows, _, _ in self._batches()]
        pairs = list(zip(ends, references, rows, strict=True))
        far = [distance(end, other)[: len(own)].double().sum() for end, other, own in pairs]
        summed, count = self.of.ranks.sum(sum(far, torch.zeros(())), float(sum(map(len, rows))))
        return summed / count
