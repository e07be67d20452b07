from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from gaia2.training.checkpoint import load_checkpoint, save_checkpoint
from gaia2.training.state import TrainingState
from tests.tiny import tokenizer, world_model


def training(model: nn.Module, **others: nn.Module) -> TrainingState:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    return TrainingState(model, optimizer, schedule, EMAModel(model.parameters(), decay=0.5), others=others)


def step(state: TrainingState) -> None:
    loss = sum((p * torch.randn_like(p)).sum() for p in state.model.parameters())
    loss.backward()
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.schedule.step()
    state.ema.step(state.model.parameters())


def everything(state: TrainingState) -> list[torch.Tensor]:
    tensors = [*state.model.state_dict().values(), *state.ema.shadow_params]
    for part in state.others.values():
        tensors += part.state_dict().values()
    return [tensor.clone() for tensor in tensors]


def test_goes_on_with_all_parts_and_the_same_chance(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    torch.manual_seed(0)
    straight = training(nn.Linear(3, 2), discriminator=nn.Linear(2, 1))
    for _ in range(2):
        step(straight)
    straight.save(path, step=2)
    for _ in range(2):
        step(straight)

    torch.manual_seed(99)
    resumed = training(nn.Linear(3, 2), discriminator=nn.Linear(2, 1))
    assert resumed.resume(path) == 2
    for _ in range(2):
        step(resumed)
    assert all(map(torch.equal, everything(straight), everything(resumed)))
    assert straight.schedule.get_last_lr() == resumed.schedule.get_last_lr()


def test_no_file_means_step_0(tmp_path: Path) -> None:
    assert training(nn.Linear(3, 2)).resume(tmp_path / "training.pt") == 0


def refused(state: TrainingState, path: Path, match: str) -> None:
    """Resuming raises, and changes neither the file nor the training."""
    content, before, random = path.read_bytes(), everything(state), torch.get_rng_state()
    with pytest.raises(ValueError, match=match):
        state.resume(path)
    assert path.read_bytes() == content
    assert all(map(torch.equal, everything(state), before))
    assert torch.equal(torch.get_rng_state(), random)


def test_a_model_of_another_size(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    training(tokenizer()).save(path, step=5)
    refused(
        training(tokenizer(dim=32, encoder_blocks=2)),
        path,
        r"training.pt: expected a checkpoint of a model with dim=32, encoder_blocks=2, got one with dim=16, "
        r"encoder_blocks=1; go on with the options that it was begun with, or give another folder",
    )
    assert training(tokenizer(seed=1)).resume(path) == 5


def test_a_model_of_another_class(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    training(tokenizer()).save(path, step=5)
    refused(
        training(world_model()), path, "expected a checkpoint of a model with .*class='WorldModel'.*, got one with .*V"
    )


def test_another_recipe(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    training(tokenizer()).save(path, step=5)
    message = (
        r"training.pt: expected a checkpoint of this training, with configs, discriminator, ema, .*, got one with "
        r"configs, ema, .*; give each training a folder of its own"
    )
    refused(training(tokenizer(), discriminator=nn.Linear(2, 1)), path, message)
    save_checkpoint(path, {"mean": torch.zeros(3)})
    refused(training(tokenizer()), path, r"expected a checkpoint of this training, .*, got one with mean; give each")


def test_a_half_written_file(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    training(tokenizer()).save(path, step=5)
    path.write_bytes(path.read_bytes()[:2000])
    refused(training(tokenizer()), path, r"training.pt: expected a training checkpoint, got a file that cannot be read")


def test_averaged_weights_are_there_within_the_block_only(tmp_path: Path) -> None:
    state = training(nn.Linear(3, 2))
    for _ in range(3):
        step(state)
    own = [p.clone() for p in state.model.parameters()]

    def inspect_and_fail() -> None:
        with state.averaged():
            assert all(map(torch.equal, state.model.parameters(), state.ema.shadow_params))
            assert not any(map(torch.equal, state.model.parameters(), own))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        inspect_and_fail()
    assert all(map(torch.equal, state.model.parameters(), own))


def test_weights_can_be_read_without_the_training(tmp_path: Path) -> None:
    model = tokenizer()
    training(model).save(tmp_path / "training.pt", step=1)
    fresh = tokenizer(seed=1)
    fresh.load_state_dict(load_checkpoint(tmp_path / "training.pt")["model"])
    assert all(map(torch.equal, fresh.state_dict().values(), model.state_dict().values()))
