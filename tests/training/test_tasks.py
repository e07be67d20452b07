from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.training.tasks import TaskSampler, sample_hole

T, N, H, W = 6, 3, 4, 6
MANY = 6000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def absent_agents(b: int, m: int = 1) -> torch.Tensor:
    agents = torch.full((b, T, N, m, 13), torch.nan)
    agents[..., 12] = -1
    return agents


def is_context(mask: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    expected = (torch.arange(mask.shape[1]) < length[:, None])[:, :, None, None, None].expand(mask.shape)
    return (mask == expected).flatten(1).all(dim=1)


def test_shares_of_the_tasks_and_lengths_of_the_context() -> None:
    mask, length = TaskSampler().sample((MANY, T, N, H, W), generator=seeded())
    context = length > 0
    assert is_context(mask[context], length[context]).all()
    given_tokens = mask.flatten(1).any(dim=1)
    inpainting = given_tokens & ~context
    scratch = ~given_tokens
    for share, expected in ((context, 0.2), (inpainting, 0.1), (scratch, 0.7)):
        # five standard deviations; a hole may by chance be everything, which moves less than 0.005
        assert share.double().mean().item() == pytest.approx(expected, abs=0.005 + 5 * (0.25 / MANY) ** 0.5)
    counts = torch.bincount(length[context], minlength=T + 1)
    assert counts[[0, T]].tolist() == [0, 0]
    expected = context.sum().item() / (T - 1)
    assert ((counts[1:T] - expected) ** 2 / expected).sum() < 18.5  # chi-squared, 4 degrees, 0.1%


@pytest.mark.parametrize(("context", "inpainting"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_only_one_task(context: float, inpainting: float) -> None:
    mask, length = TaskSampler(context=context, inpainting=inpainting).sample((200, T, N, H, W), generator=seeded())
    assert ((length > 0) == (context == 1)).all()
    some = mask.flatten(1).any(dim=1)
    everything = mask.flatten(1).all(dim=1)
    assert not everything.any()
    if context:
        assert some.all()
    elif not inpainting:
        assert not some.any()
    else:
        assert some.double().mean() > 0.9


def test_one_latent_has_no_context() -> None:
    mask, length = TaskSampler(context=1.0, inpainting=0.0).sample((50, 1, N, H, W), generator=seeded())
    assert (length == 0).all()
    assert not mask.any()


def test_same_generator_same_tasks() -> None:
    one, again = (TaskSampler().sample((64, T, N, H, W), generator=seeded(4)) for _ in range(2))
    assert torch.equal(one[0], again[0])
    assert torch.equal(one[1], again[1])


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5)),
    seed=st.integers(0, 1000),
)
def test_a_hole_is_cameras_or_a_cuboid(shape: tuple[int, int, int, int], seed: int) -> None:
    t, n, h, w = shape
    holes = sample_hole((16, *shape), generator=seeded(seed)).numpy()
    for hole in holes:
        assert hole.any()
        axes = [hole.any(axis=tuple(a for a in range(4) if a != axis)) for axis in range(4)]
        # a product of what it covers on each axis, without gaps in time, height and width
        product = np.einsum("t,n,h,w->tnhw", *axes).astype(bool)
        np.testing.assert_array_equal(hole, product)
        for axis in (0, 2, 3):
            covered = np.flatnonzero(axes[axis])
            assert covered[-1] - covered[0] + 1 == len(covered)
        whole_cameras = axes[0].all() and axes[2].all() and axes[3].all()
        assert whole_cameras or axes[1].sum() in (1, n)


def test_holes_of_cameras_leave_a_camera() -> None:
    holes = sample_hole((MANY, T, N, H, W), generator=seeded())
    whole = holes.flatten(3).all(dim=3).all(dim=1)  # (b, n)
    cameras = whole.sum(dim=1)
    share = ((cameras > 0) & (cameras < N)).double().mean().item()
    assert share == pytest.approx(1 / 3, abs=0.03)
    assert {1, 2} <= set(cameras.tolist())
    assert holes.flatten(1).all(dim=1).double().mean() < 0.01


def tube_of(boxes: torch.Tensor) -> torch.Tensor:
    """Holes of samples with one agent; those that are its tube, taken from many draws."""
    b = 400
    agents = absent_agents(b)
    agents[..., 0, :4] = boxes
    agents[..., 0, 12] = 0
    return sample_hole((b, T, N, H, W), agents=agents, generator=seeded())


def test_a_tube_covers_the_cells_of_the_box_and_one_more() -> None:
    boxes = torch.full((T, N, 4), torch.nan)
    # seen by camera 1 only, moving to the right: columns 1 and 2, then 2 and 3; rows 1 and 2
    boxes[:3, 1] = torch.tensor([1.2 / W, 1.5 / H, 2.7 / W, 2.5 / H])
    boxes[3:, 1] = torch.tensor([2.2 / W, 1.5 / H, 3.7 / W, 2.5 / H])
    expected = torch.zeros(T, N, H, W).bool()
    expected[:3, 1, 0:4, 0:4] = True
    expected[3:, 1, 0:4, 1:5] = True
    same = (tube_of(boxes) == expected).flatten(1).all(dim=1)
    assert same.double().mean().item() == pytest.approx(1 / 3, abs=0.12)


def test_a_tube_is_cut_at_the_border_and_a_box_on_a_line_covers_one_side() -> None:
    boxes = torch.tensor([0.0, 0.0, 2 / W, 1 / H]).expand(T, N, 4)
    expected = torch.zeros(T, N, H, W).bool()
    expected[..., 0:2, 0:3] = True
    assert (tube_of(boxes) == expected).flatten(1).all(dim=1).any()


def test_without_an_agent_in_sight_there_is_still_a_hole() -> None:
    holes = sample_hole((300, T, N, H, W), agents=absent_agents(300, 4), generator=seeded())
    assert holes.flatten(1).any(dim=1).all()


def test_tubes_follow_one_agent_only() -> None:
    agents = absent_agents(300, 2)
    agents[..., 12] = 0
    agents[..., 0, :4] = torch.tensor([0.0, 0.0, 0.5 / W, 0.5 / H])
    agents[..., 1, :4] = torch.tensor([1 - 0.5 / W, 1 - 0.5 / H, 1.0, 1.0])
    holes = sample_hole((300, T, N, H, W), agents=agents, generator=seeded())
    one, other = torch.zeros(T, N, H, W).bool(), torch.zeros(T, N, H, W).bool()
    one[..., :2, :2] = True
    other[..., -2:, -2:] = True
    counts = [(holes == tube).flatten(1).all(dim=1).sum().item() for tube in (one, other, one | other)]
    assert counts[0] > 20
    assert counts[1] > 20
    assert counts[2] == 0


def test_rows_without_an_agent_are_not_drawn() -> None:
    """Two agents in 16 rows, one of them out of sight: all tubes are of the other."""
    agents = absent_agents(600, 16)
    agents[..., 5, :4] = torch.tensor([0.0, 0.0, 0.5 / W, 0.5 / H])
    agents[..., 5, 12] = 2
    agents[..., 11, 12] = 2
    holes = sample_hole((600, T, N, H, W), agents=agents, generator=seeded())
    tube = torch.zeros(T, N, H, W).bool()
    tube[..., :2, :2] = True
    share = (holes == tube).flatten(1).all(dim=1).double().mean().item()
    assert share == pytest.approx(1 / 3, abs=0.07)


@pytest.mark.parametrize(("context", "inpainting"), [(-0.1, 0.1), (0.1, -0.1), (0.6, 0.5)])
def test_bad_shares(context: float, inpainting: float) -> None:
    message = f"context, inpainting: expected shares of at least 0 .*, got {context} and {inpainting}"
    with pytest.raises(ValueError, match=message):
        TaskSampler(context=context, inpainting=inpainting)


def shares(values: torch.Tensor, count: int) -> torch.Tensor:
    return torch.bincount(values, minlength=count).float() / len(values)


def test_extents_places_and_cameras_of_cuboids_are_uniform() -> None:
    """Two thirds of the holes without agents; on a grid of one camera there are no whole cameras to tell apart."""
    holes = sample_hole((20_000, T, N, H, W), generator=seeded())
    spans = {axis: holes.flatten(2).any(dim=2) if axis == 1 else holes.transpose(1, axis).flatten(2).any(dim=2)
             for axis in (1, 2, 3, 4)}  # fmt: skip
    whole = spans[1].all(dim=1) & spans[3].all(dim=1) & spans[4].all(dim=1)
    for axis, size in ((1, T), (3, H), (4, W)):
        extent = spans[axis][~whole].sum(dim=1)
        # all extents alike, but for the few that cover the other axes whole and are counted as cameras
        assert (shares(extent, size + 1)[1:] - 1 / size).abs().max() < 0.03, axis
        one = spans[axis][~whole & (spans[axis].sum(dim=1) == 1)]
        assert (one.float().mean(dim=0) - 1 / size).abs().max() < 0.05, axis
    cameras = spans[2][~whole].sum(dim=1)
    assert set(cameras.tolist()) == {1, N}
    assert (cameras == N).float().mean().item() == pytest.approx(0.5, abs=0.02)
    lone = spans[2][~whole][cameras == 1]
    assert (lone.float().mean(dim=0) - 1 / N).abs().max() < 0.02


def test_holes_of_cameras_are_uniform_in_number_and_choice() -> None:
    holes = sample_hole((12_000, T, 4, H, W), generator=seeded())
    whole = holes.flatten(3).all(dim=3).all(dim=1)
    count = whole.sum(dim=1)
    two_or_three = whole[(count == 2) | (count == 3)]  # a cuboid may be one camera or all
    assert shares(count, 5)[2].item() == pytest.approx(1 / 9, abs=0.012)
    assert shares(count, 5)[3].item() == pytest.approx(1 / 9, abs=0.012)
    assert (two_or_three.float().mean(dim=0) - 2.5 / 4).abs().max() < 0.03


def test_the_only_camera_can_be_the_hole() -> None:
    holes = sample_hole((3000, T, 1, H, W), generator=seeded())
    assert holes.flatten(1).all(dim=1).float().mean().item() == pytest.approx(1 / 3, abs=0.03)


def test_with_agents_a_third_each_are_cameras_cuboids_and_tubes() -> None:
    agents = absent_agents(6000, 1)
    agents[..., 12] = 0
    agents[..., :4] = torch.tensor([0.0, 0.0, 0.5 / W, 0.5 / H])
    holes = sample_hole((6000, T, N, H, W), agents=agents, generator=seeded())
    tube = torch.zeros(T, N, H, W).bool()
    tube[..., :2, :2] = True
    is_tube = (holes == tube).flatten(1).all(dim=1)
    count = holes.flatten(3).all(dim=3).all(dim=1).sum(dim=1)
    assert is_tube.float().mean().item() == pytest.approx(1 / 3, abs=0.025)
    assert ((count > 0) & ~is_tube).float().mean().item() == pytest.approx(1 / 3, abs=0.03)


def test_an_agent_without_an_image_box_or_a_category_is_not_seen() -> None:
    """Its box is known in part, or its row is empty: no hole follows it."""
    agents = absent_agents(300, 2)
    agents[..., 0, 12] = 1
    agents[..., 0, :3] = 0.2  # y2 is not known
    agents[..., 1, :4] = torch.tensor([0.0, 0.0, 0.5 / W, 0.5 / H])
    plain = sample_hole((300, T, N, H, W), generator=seeded())
    assert torch.equal(sample_hole((300, T, N, H, W), agents=agents, generator=seeded()), plain)


def test_a_tube_is_there_at_the_times_and_in_the_cameras_that_see_the_agent() -> None:
    agents = absent_agents(300, 1)
    agents[:, 2, 1, 0, 12] = 0
    agents[:, 2, 1, 0, :4] = torch.tensor([2 / W, 1 / H, 3 / W, 2 / H])
    expected = torch.zeros(T, N, H, W).bool()
    expected[2, 1, 0:3, 1:4] = True
    holes = sample_hole((300, T, N, H, W), agents=agents, generator=seeded())
    assert (holes == expected).flatten(1).all(dim=1).float().mean().item() == pytest.approx(1 / 3, abs=0.1)


def test_tasks_that_add_up_to_one_leave_no_sample_from_scratch() -> None:
    sampler = TaskSampler(context=0.6, inpainting=0.4)
    mask, length = sampler.sample((MANY, T, N, H, W), generator=seeded())
    assert (length > 0).double().mean().item() == pytest.approx(0.6, abs=0.03)
    # from scratch only where the hole is everything
    assert mask.flatten(1).any(dim=1).double().mean().item() > 0.98
    assert TaskSampler(context=1.0, inpainting=0.0).sample((1, 2, 1, 1, 1))[1].tolist() == [1]


def test_inpainting_follows_the_agents_it_is_given() -> None:
    agents = absent_agents(400)
    agents[..., 12] = 0
    agents[..., :4] = torch.tensor([0.0, 0.0, 0.5 / W, 0.5 / H])
    tube = torch.zeros(T, N, H, W).bool()
    tube[..., :2, :2] = True
    sampler = TaskSampler(context=0.0, inpainting=1.0)
    mask, _ = sampler.sample((400, T, N, H, W), agents=agents, generator=seeded())
    assert (mask == ~tube).flatten(1).all(dim=1).double().mean().item() == pytest.approx(1 / 3, abs=0.1)
