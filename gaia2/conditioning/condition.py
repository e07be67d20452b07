"""What a condition is: its tensors, what absent is, how it is made from scenes, its encoder, and where that enters.

Axes: b batch, t latent time, n cameras, h w latent grid, k tokens, c channels; tv video frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from gaia2.scene import Scene

Conditioning = dict[str, torch.Tensor]
"""Tensors by key: what `scene_conditioning` makes and the world model takes."""

Enters = Literal["modulation", "position", "tokens", "global"]
"""Where an encoder's result enters the world model.

- `modulation`: `(b, t, c)`, added to the flow time's embedding for the adaptive layer norm.
- `position`: `(b, t, n, h, w, c)`, added to the tokens of the video; t, n, h and w may be 1.
- `tokens`: tokens of each time and camera for cross-attention, `(b, t, n, k, c)`, and a mask `(b, t, n, k)`, true where
  there is one; t and n may be 1.
- `global`: tokens for cross-attention of all times and cameras, `(b, k, c)`.
"""

Encoded = torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None


class Check(NamedTuple):
    """A check of the values of one key.

    Attributes:
        key: Which.
        expected: What should be there, in words; or a function that says it of the index of the first wrong value.
        values: The values.
        wrong: Where they are wrong, boolean.
    """

    key: str
    expected: str | Callable[[list[int]], str]
    values: torch.Tensor
    wrong: torch.Tensor

    def error(self) -> ValueError:
        """What is wrong."""
        first = self.wrong.nonzero()[0].tolist()
        expected = self.expected if isinstance(self.expected, str) else self.expected(first)
        return ValueError(f"{self.key}: expected {expected}, got {self.values[tuple(first)].item():g}")


@dataclass(frozen=True)
class Key:
    """One tensor of a condition.

    Attributes:
        axes: Names of its axes, `b` first, such as `"b t k p c"`; b, t and n are those of the batch.
        sizes: Sizes of the other axes that are fixed.
        name: What guidance and dropout call it; the key itself by default.
        aliases: More names for it.
        columns: Names of the entries along its second axis, where each is left out on its own.
        integer: Whether it holds ids, -1 where absent, in place of numbers, NaN where absent.
        required: Whether every conditioning must have it.
        droppable: Whether it can be absent, and so left out by training and by guidance.
        dropout: Probability that training drops it on its own; None is that of `ConditioningDropout`.
    """

    axes: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    name: str = ""
    aliases: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    integer: bool = False
    required: bool = False
    droppable: bool = True
    dropout: float | None = None

    @property
    def letters(self) -> list[str]:
        """The axes one by one."""
        return self.axes.split()

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...] | None:
        """Its shape, given the sizes of b, t and n; None if an axis has no fixed size."""
        known = {**self.sizes, **sizes}
        shape = tuple(known.get(letter, -1) for letter in self.letters)
        return None if -1 in shape else shape


@dataclass(frozen=True)
class LatentTimes:
    """How video frames become latent times.

    Attributes:
        frames_per_latent: Video frames of one latent.
        present: Latent time that is the present.
    """

    frames_per_latent: int
    present: int = 0

    @property
    def middle(self) -> slice:
        """The middle frame of each latent."""
        return slice(self.frames_per_latent // 2, None, self.frames_per_latent)

    def mean(self, values: Sequence[np.ndarray]) -> torch.Tensor:
        """Mean `(b, t, ...)` of `(tv, ...)` over each latent's frames; NaN is left out, or stays if all are NaN.

        Example:
            >>> LatentTimes(2).mean([np.array([1.0, 3.0, np.nan, 5.0])])
            tensor([[2., 5.]], dtype=torch.float64)
        """
        groups = torch.from_numpy(np.stack(values)).unflatten(1, (-1, self.frames_per_latent))
        return groups.nanmean(dim=2)


@dataclass(frozen=True)
class Condition:
    """One condition of the world model. Subclass it for your own; see docs/add_a_condition.md.

    A subclass is a frozen dataclass whose fields are JSON values: they are what a checkpoint records of it. It needs
    `name`, `enters`, `keys` and `make_encoder`; everything else has a default that suits tensors made from
    `Scene.extra`.

    Attributes:
        name: Name of its encoder in `ConditioningEncoder`, and so in the names of its weights.
        enters: Where the encoder's result enters, see `Enters`.
    """

    name: ClassVar[str]
    enters: ClassVar[Enters]

    @property
    def keys(self) -> Mapping[str, Key]:
        """Its tensors by key."""
        raise NotImplementedError(f"{type(self).__name__}.keys: expected the tensors of this condition; define it")

    def make_encoder(self, dim: int) -> nn.Module:
        """A new encoder that gives `dim` channels."""
        raise NotImplementedError(f"{type(self).__name__}.make_encoder: expected an nn.Module; define it")

    def encode(self, encoder: nn.Module, given: Conditioning, grid: tuple[int, int] | None) -> Encoded:
        """What enters the world model.

        Args:
            encoder: What `make_encoder` made; called with the tensors of the keys, in their order.
            given: Tensors of all conditions. A key that is not given is there as absent, unless it has an axis without
                a fixed size.
            grid: Rows and columns h, w of the latents; None if nobody told.

        Returns:
            As `enters` says; None if nothing enters.
        """
        if any(key not in given for key in self.keys):
            return None
        return encoder(*(given[key] for key in self.keys))

    def collate(self, scenes: Sequence[Scene], times: LatentTimes) -> Conditioning:
        """Tensors of a batch of scenes that agree in frames and cameras; a key may be left out if none has it.

        By default each key is an array of `Scene.extra` of that name, with the axes of the key but `tv` for t and no b.
        Of each latent its middle frame counts. Scenes without one, and rows that others have more of, are absent.
        """
        return {
            key: self._stack(key, [scene.extra.get(key) for scene in scenes], times)
            for key in self.keys
            if any(key in scene.extra for scene in scenes)
        }

    def check_scene(self, scene: Scene) -> None:
        """Raise a `ValueError` if the scene says something that this condition cannot take."""
        for key, spec in self.keys.items():
            if key not in scene.extra:
                continue
            array, axes = scene.extra[key], ["tv" if letter == "t" else letter for letter in spec.letters[1:]]
            fits = list(array.axes) == axes and all(
                size <= spec.sizes.get(letter, size) for letter, size in zip(axes, array.values.shape, strict=True)
            )
            if not fits:
                wanted = ", ".join(f"{a} up to {spec.sizes[a]}" if a in spec.sizes else a for a in axes)
                raise ValueError(
                    f"extra: {key}: expected the axes ({wanted}), as {type(self).__name__} takes them, got "
                    f"({' '.join(array.axes)}) of {array.values.shape}; give an array with these axes"
                )

    def said_by(self, scene: Scene) -> Iterator[str]:
        """Names of what a scene says of this condition."""
        for key, spec in self.keys.items():
            if key in scene.extra:
                yield spec.name or key

    def absent_like(self, key: str, tensor: torch.Tensor) -> torch.Tensor:
        """Absent values in the form of a tensor."""
        return torch.full_like(tensor, torch.nan if tensor.is_floating_point() else -1)

    def masked_like(self, key: str, tensor: torch.Tensor) -> torch.Tensor:
        """What stands in place of the values of a camera that does not take part; only for keys with an axis n."""
        return self.absent_like(key, tensor)

    def thin(
        self, given: Conditioning, *, feature: float, instances: bool, generator: torch.Generator | None
    ) -> Conditioning:
        """Leave out a part of what training does not drop as a whole.

        Args:
            given: The tensors of this condition that are there; not changed.
            feature: Probability that a single feature is dropped.
            instances: Whether the number of things is cut.
            generator: Random numbers.

        Returns:
            Tensors that change.
        """
        return {}

    def checks(self, given: Conditioning) -> list[Check]:
        """Values of its keys that would spoil the result in silence."""
        checks = []
        for key, tensor in given.items():
            spec = self.keys[key]
            if spec.integer:
                checks.append(Check(key, "ids, or -1 where absent", tensor, tensor < -1))
            elif spec.droppable:
                checks.append(Check(key, "finite numbers, or NaN where absent", tensor, tensor.isinf()))
            else:
                checks.append(Check(key, "finite numbers", tensor, ~tensor.isfinite()))
        return checks

    def plausibility_checks(self, given: Conditioning) -> list[Check]:
        """Values of its keys that can hardly be meant."""
        return []

    def to_config(self) -> dict[str, Any]:
        """The class's name and the fields, as a checkpoint records them."""
        return {"_class_name": type(self).__name__} | {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def _stack(self, key: str, arrays: Sequence[Any], times: LatentTimes) -> torch.Tensor:
        """Stack arrays of `Scene.extra`; absent where one is None, or shorter than the longest or the fixed size."""
        spec = self.keys[key]
        values = [
            None if a is None else torch.tensor(a.values)[times.middle if "t" in spec.letters else slice(None)]
            for a in arrays
        ]
        there = [value for value in values if value is not None]
        longest = [max(sizes) for sizes in zip(*(value.shape for value in there), strict=True)]
        shape = [spec.sizes.get(letter, size) for letter, size in zip(spec.letters[1:], longest, strict=True)]
        dtype = torch.int64 if spec.integer else torch.float64
        result = self.absent_like(key, torch.zeros(len(values), *shape, dtype=dtype))
        for row, value in zip(result, values, strict=True):
            if value is not None:
                row[tuple(slice(size) for size in value.shape)] = value.to(dtype)
        return result


def needed_grid(grid: tuple[int, int] | None) -> tuple[int, int]:
    """The grid of the latents, for conditions that tell cells apart.

    Raises:
        ValueError: If nobody told.
    """
    if grid is None:
        raise ValueError("grid: expected rows and columns of the latents, since this model has maps, got None")
    return grid


def uniform(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> torch.Tensor:
    """Uniform numbers, drawn where the generator lives."""
    if generator is None:
        return torch.rand(shape, device=device)
    return torch.rand(shape, generator=generator, device=generator.device).to(device)
