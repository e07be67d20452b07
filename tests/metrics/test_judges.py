"""The judge: what it learns from, what its loss leaves out, and what the one in the package knows."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange

from gaia2.data.procedural import ProceduralWorld
from gaia2.data.procedural.boxes import CLASSES
from gaia2.metrics.judge_pictures import AGENTS, NUMBERS, JudgePictures, asked_labels, part_classes
from gaia2.metrics.judge_training import shipped_judge
from gaia2.metrics.picture_training import new_judge, spoiled, train_judge
from gaia2.scene import METADATA


@pytest.fixture(scope="module")
def pictures() -> JudgePictures:
    return JudgePictures.render(2, (32, 64))


def test_pictures_know_their_scene(pictures: JudgePictures) -> None:
    world = ProceduralWorld("random", (32, 64), num_frames=2, frame_rates=(0.5, 0.7, 1.0, 2.0), num_cameras=1)
    seeds = [700_000_000, 700_000_001]
    scenes = world.sample_scenes(seeds)
    frames = world.render(scenes, seeds)
    assert torch.equal(pictures.pictures, rearrange(frames, "b t n c h w -> (b t n) c h w"))
    for name, ids in asked_labels(scenes).items():
        assert pictures.labels[name].tolist() == ids.repeat_interleave(2).tolist()
    assert pictures.numbers["height"].tolist() == pytest.approx(
        [s.rig.extrinsics[0, 2, 3] for s in scenes for _ in "01"]
    )


def test_a_part_is_what_fills_it_and_agents_count_double() -> None:
    road, car = CLASSES.index("road"), AGENTS[0]
    pixels = torch.full((8, 8), road)
    # the first part is road alone
    pixels[:4, 4:6] = car  # half of the second: an agent, which counts double
    pixels[4, :4] = car  # a quarter of the third: not enough
    assert part_classes(pixels).tolist() == [[road, car], [road, road]]


def test_loss_leaves_out_what_is_not_known() -> None:
    torch.manual_seed(0)
    judge = new_judge(width=4).eval()
    verdict = judge(torch.rand(2, 3, 32, 64))
    classes = torch.zeros(2, 8, 16, dtype=torch.int64)
    labels = {name: torch.tensor([0, -1]) for name in METADATA}
    numbers = {name: torch.tensor([1.0, torch.nan]) for name in NUMBERS}
    loss = judge.loss(verdict, classes, labels, numbers)
    assert loss.isfinite()
    first = verdict._replace(
        labels={name: logits[:1] for name, logits in verdict.labels.items()},
        numbers={name: values[:1] for name, values in verdict.numbers.items()},
    )
    known = judge.loss(
        first,
        classes,
        {name: ids[:1] for name, ids in labels.items()},
        {name: values[:1] for name, values in numbers.items()},
    )
    torch.testing.assert_close(loss, known)
    nothing = {name: torch.tensor([-1, -1]) for name in METADATA}
    of_parts = torch.nn.functional.cross_entropy(verdict.classes, classes)
    nan = {name: torch.tensor([torch.nan, torch.nan]) for name in NUMBERS}
    torch.testing.assert_close(judge.whole_loss(verdict, nothing, nan), torch.tensor(0.0))
    torch.testing.assert_close(judge.loss(verdict, classes, nothing, nan), of_parts)


def test_training_learns_what_parts_show(pictures: JudgePictures) -> None:
    judge = train_judge(pictures, minutes=0.05, width=8)
    seen = judge(pictures.pictures.float() / 255)
    right = (seen.classes.argmax(dim=1) == pictures.classes).float().mean()
    most = torch.bincount(pictures.classes.flatten().long()).max() / pictures.classes.numel()
    assert right > most + 0.1


def test_spoiled_pictures_stay_near() -> None:
    flat = torch.full((6, 3, 16, 16), 100, dtype=torch.uint8)
    got = spoiled(flat, torch.Generator().manual_seed(0))
    assert abs(float(got.mean()) - 100 / 255) < 0.003
    edge = flat.clone()
    edge[..., 8:] = 200
    steps = spoiled(edge, torch.Generator().manual_seed(0)).mean(dim=(1, 2)).diff(dim=-1)[:, 7]
    assert steps[0] > steps[2] > steps[4]  # sharp, blurred, blurred twice


@pytest.mark.long
def test_shipped_judge_on_held_out_pictures() -> None:
    """Weather and time of day of genuine clips of two moments and five cameras of random rigs."""
    judge, priors, *_ = shipped_judge()
    seeds = range(500_800_000, 500_800_050)
    world = ProceduralWorld("random", num_frames=2, frame_rates=(0.5, 1.0), num_cameras=5, rays=2)
    scenes = world.sample_scenes(seeds)
    frames = world.render(scenes, seeds).float() / 255
    right = dict.fromkeys(("weather", "time_of_day"), 0)
    for row, (video, scene) in enumerate(zip(frames, scenes, strict=True)):
        with torch.no_grad():
            seen = judge(video.flatten(0, 1))
        for name in right:
            evidence = (seen.labels[name].log_softmax(dim=-1) - priors[name]).sum(dim=0)
            right[name] += int(evidence.argmax()) == int(asked_labels([scene])[name])
        assert row < 50
    assert min(right.values()) >= 49, right
