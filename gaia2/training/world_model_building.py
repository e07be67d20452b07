"""The world model as a training begins with it: random or trained weights, perhaps with more conditions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gaia2.models.behaviour_encoder import BehaviourEncoder
from gaia2.models.world_model import WorldModel


def build_world_model(
    options: Mapping[str, Any],
    *,
    start_from: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
    weights: bool = True,
) -> WorldModel:
    """A world model to be trained.

    Args:
        options: Its arguments.
        start_from: Folder of a trained one, whose weights it takes, and whose arguments go before `options`.
        changes: Arguments that go before both. A trained model may get more conditions by them, see `extend`.
        seed: Of the random weights.
        weights: Whether it has weights; else it is on the meta device, for a rank that gets its shards from another.

    Example:
        >>> options = dict(latent_channels=4, dim=32, num_heads=2, num_blocks=1)
        >>> next(build_world_model(options, weights=False).parameters()).is_meta
        True
    """
    torch.manual_seed(seed)
    changes = dict(changes or {})
    if not weights:
        given = options if start_from is None else WorldModel.load_config(start_from)
        with torch.device("meta"):
            return WorldModel.from_config({**given, **changes}).train()
    if start_from is not None:
        return extend(WorldModel.from_pretrained(start_from), **changes).train()
    return WorldModel(**{**options, **changes})


def extend(model: WorldModel, **options: Any) -> WorldModel:
    """The model with other arguments, by which it may have more conditions: their encoders begin at random.

    Args:
        model: A trained model; it is given back as it is where nothing changes.
        **options: Arguments that add weights, and take none away.

    Example:
        >>> model = WorldModel(latent_channels=4, dim=32, num_heads=2, num_blocks=1)
        >>> larger = extend(model, ray_map=True)
        >>> larger.config.ray_map, torch.equal(larger.proj_in.weight, model.proj_in.weight)
        (True, True)
    """
    changed = {name for name, value in options.items() if model.config[name] != value}
    if not changed:
        return model
    # diffusers takes what was a default when the model was made for one now
    own = {name: value for name, value in model.config.items() if name != "_use_default_values"}
    larger = WorldModel.from_config({**own, **options})
    missing, foreign = larger.load_state_dict(model.state_dict(), strict=False)
    assert not foreign
    assert all(changed & set(name.split(".")) for name in missing), missing
    return larger


def load_scenario_encoder(folder: str | Path | None, model: WorldModel) -> BehaviourEncoder | None:
    """What makes scenario embeddings for a world model, from a folder of a `BehaviourEncoder`; None is none.

    Raises:
        ValueError: If the embeddings have another width than the model takes.
    """
    if folder is None:
        return None
    encoder = BehaviourEncoder.from_pretrained(folder)
    made, taken = encoder.config.embedding_dim, model.config.scenario_dim
    if made != taken:
        raise ValueError(
            f"scenario_encoder: expected embeddings of the model's {taken} numbers, got {made} of {folder}; train one "
            f"with embedding_dim={taken}"
        )
    return encoder
