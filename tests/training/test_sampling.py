from __future__ import annotations

import torch

from gaia2.training.sampling import SeededBatches, StepLoader, _mixed, sample_normal, step_generator


def batches(**changes: object) -> list[list[tuple[int, int, int]]]:
    return list(
        SeededBatches(**dict(clips=range(2, 9), num_cameras=3, samples=range(4), steps=(0, 40), seed=0) | changes)
    )


def test_a_step_has_its_own_random_numbers() -> None:
    numbers = {
        (seed, step): tuple(torch.rand(4, generator=step_generator(seed, step)).tolist())
        for seed in range(5)
        for step in range(20)
    }
    assert len(set(numbers.values())) == 100
    assert tuple(torch.rand(4, generator=step_generator(3, 7)).tolist()) == numbers[3, 7]


def test_a_resumed_run_sees_the_same_examples() -> None:
    assert batches(steps=(0, 40))[25:] == batches(steps=(25, 40))
    assert batches(seed=1) != batches()
    assert len(SeededBatches(clips=range(3), num_cameras=1, samples=range(1), steps=(25, 40), seed=0)) == 15
    assert batches(steps=(40, 40)) == []


def test_examples_are_uniform_over_clips_and_cameras() -> None:
    drawn = [example for batch in batches(steps=(0, 1000), samples=range(8)) for example in batch]
    assert {clip for clip, _, _ in drawn} == set(range(2, 9))
    places = [(clip, camera) for clip, camera, _ in drawn]
    counts = [places.count((clip, camera)) for clip in range(2, 9) for camera in range(3)]
    expected = 8000 / 21
    assert sum((count - expected) ** 2 / expected for count in counts) < 45.3  # chi-squared, 20 degrees, 0.1%


def test_whole_clips() -> None:
    drawn = [example for batch in batches(num_cameras=None) for example in batch]
    assert {camera for _, camera, _ in drawn} == {-1}
    assert {clip for clip, _, _ in drawn} == set(range(2, 9))


def test_every_example_has_a_seed_of_its_own() -> None:
    seeds = [seed for batch in batches() for _, _, seed in batch]
    assert len(set(seeds)) == len(seeds) == 160
    assert min(seeds) >= 0
    assert torch.Generator().manual_seed(max(seeds)).initial_seed() == max(seeds)


def test_ranks_and_micro_batches_see_what_one_process_sees() -> None:
    both = [batches(samples=samples) for samples in (range(2), range(2, 4))]
    assert [one + other for one, other in zip(*both, strict=True)] == batches()
    generators = [step_generator(0, 3, sample) for sample in range(4)]
    normal = sample_normal((5,), generators)
    assert torch.equal(normal[2:], sample_normal((5,), [step_generator(0, 3, sample) for sample in (2, 3)]))
    assert len({tuple(row.tolist()) for row in normal}) == 4


def test_a_loader_goes_on_in_order_and_back_where_it_is_told_to() -> None:
    made = []

    def make(done: int) -> range:
        made.append(done)
        return range(done + 1, 9)

    loader = StepLoader(make)
    assert [loader[step] for step in (1, 2, 3, 2, 3, 7)] == [1, 2, 3, 2, 3, 7]
    assert made == [0, 1, 6]


def test_bits_are_mixed_as_by_splitmix64() -> None:
    """The first numbers of the published generator from the state 0, which counts up by an odd constant."""
    step, expected = 0x9E3779B97F4A7C15, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [_mixed(i * step % 2**64) for i in range(3)] == expected


def test_a_step_has_the_same_numbers_in_every_version() -> None:
    """A run that was begun with one version of the library goes on with the next."""
    assert step_generator(2, 7).initial_seed() == 2_000_013
    assert step_generator(0, 7).initial_seed() == 7
    assert step_generator(2**62, 5).initial_seed() == (2**62 * 1_000_003 + 5) % 2**63
    assert step_generator(0, 0, 0).initial_seed() == _mixed(0xE220A8397B1DCDAF) % 2**63
    assert step_generator(0, 0, 3).initial_seed() == _mixed(0xE220A8397B1DCDAF + 3) % 2**63


def test_seeds_of_examples_use_62_bits() -> None:
    seeds = [seed for batch in batches(steps=(0, 500)) for _, _, seed in batch]
    assert 2**61 < max(seeds) < 2**62
    assert abs(sum(seed >= 2**61 for seed in seeds) / len(seeds) - 0.5) < 0.05


def test_normal_numbers_have_a_shape_for_each_sample() -> None:
    numbers = sample_normal((40, 50), [torch.Generator().manual_seed(i) for i in range(3)])
    assert numbers.shape == (3, 40, 50)
    assert torch.equal(numbers[1], torch.randn(40, 50, generator=torch.Generator().manual_seed(1)))


def test_a_loader_begins_where_it_is_first_asked() -> None:
    loader = StepLoader(lambda done: iter(range(done + 1, 100)))
    assert (loader[1], loader[1], loader[0]) == (1, 1, 0)
