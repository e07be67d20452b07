"""All condition encoders together: from the conditioning tensors to what the world model's blocks take.

Axes: b batch, t latent time, n cameras, h w latent grid, k tokens, c channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from einops import repeat
from torch import nn

from gaia2.conditioning.checks import check_axes_of, check_values
from gaia2.conditioning.condition import Condition, Conditioning
from gaia2.conditioning.dropout import blank_cameras
from gaia2.conditioning.metadata import Vocabulary
from gaia2.conditioning.table import ConditionTable, standard_conditions
from gaia2.nn.shapes import check_axes

if TYPE_CHECKING:
    from gaia2.nn.attention import KeysValues


class EncoderOutput(NamedTuple):
    """Conditions as the world model's blocks take them.

    Attributes:
        action: `(b, t, c)`, for the adaptive layer norm.
        position: `(b, t, n, h, w, c)`, camera geometry and timestamp, added to the tokens; h = w = 1 unless there are
            maps, which tell cells apart.
        tokens: `(b, t, n, k, c)`, for cross-attention: those of that camera and time (boxes), then the global tokens
            (metadata, CLIP, scenario), the same for every camera and time.
        mask: `(b, t, n, k)` bool, true where a token may be attended to; the global tokens always.
    """

    action: torch.Tensor
    position: torch.Tensor
    tokens: torch.Tensor
    mask: torch.Tensor


class EncodedConditioning(NamedTuple):
    """An `EncoderOutput`, and what a world model made of it for the steps of a generation.

    Attributes:
        action: See `EncoderOutput`, as of the next three.
        position: Likewise.
        tokens: Likewise.
        mask: Likewise.
        ready: What `WorldModel.prepare` gives; None before.
    """

    action: torch.Tensor
    position: torch.Tensor
    tokens: torch.Tensor
    mask: torch.Tensor
    ready: ReadyConditioning | None = None


class ReadyConditioning(NamedTuple):
    """What does not change from one denoising step to the next.

    Attributes:
        positions: `(b, t, n, h, w, c)`, `position` and that of the cell in its grid together; None where the grid was
            not known.
        tokens: For each block what its cross-attention takes: its keys and values, or `(b, t, n, k, c)` tokens.
        mask: `(b, t, n, k)` bool of these tokens; None where all may be attended to.
    """

    positions: torch.Tensor | None
    tokens: tuple[KeysValues | torch.Tensor, ...]
    mask: torch.Tensor | None


class ConditioningEncoder(nn.Module):
    """Embed every condition (paper §2.2.1 and §2.2.3).

    Action goes to the adaptive layer norm, camera geometry and timestamp are added to the tokens, everything else
    becomes tokens for cross-attention. The encoder of each condition is a submodule of the condition's name.

    Args:
        dim: Channels of everything.
        vocabulary: See `standard_conditions`, also for the other arguments.
        agent_categories: Likewise.
        max_agents: Likewise; what `conditions` collates, the encoder takes any number.
        clip_dim: Width of CLIP embeddings.
        scenario_dim: Width of scenario embeddings.
        max_seconds: Seconds from the present that map to 1.
        ray_map: Whether cells know where they look, see `RayMapEncoder`; not of the paper.
        agent_map: Whether cells know which agents they hold, see `AgentMapEncoder`; not of the paper.
        ground_map: Whether cells know which ground they see, see `GroundMapEncoder`; not of the paper.
        more: Conditions of your own besides.

    Attributes:
        conditions: All conditions, in the order in which they are encoded.

    Raises:
        ValueError: If a condition of your own has a name or key that is taken, or does not make sense.

    Example:
        >>> encoder = ConditioningEncoder(dim=8)
        >>> encoded = encoder(
        ...     {
        ...         "timestamps": torch.zeros(1, 3, 5),
        ...         "intrinsics": torch.tensor([0.75, 1.5, 0.5, 0.5]).expand(1, 5, 4),
        ...         "extrinsics": torch.eye(4).expand(1, 5, 4, 4),
        ...         "speed": torch.full((1, 3), 12.0),
        ...     }
        ... )
        >>> encoded.action.shape, encoded.tokens.shape  # 11 metadata tokens, CLIP, scenario
        (torch.Size([1, 3, 8]), torch.Size([1, 3, 5, 13, 8]))
    """

    def __init__(
        self,
        *,
        dim: int,
        vocabulary: Vocabulary | None = None,
        agent_categories: Sequence[str] | None = None,
        max_agents: int = 16,
        clip_dim: int = 768,
        scenario_dim: int = 512,
        max_seconds: float = 2.4,
        ray_map: bool = False,
        agent_map: bool = False,
        ground_map: bool = False,
        more: Sequence[Condition] = (),
    ) -> None:
        super().__init__()
        self.dim = dim
        self.conditions: ConditionTable = standard_conditions(
            vocabulary=vocabulary,
            agent_categories=agent_categories,
            max_agents=max_agents,
            clip_dim=clip_dim,
            scenario_dim=scenario_dim,
            max_seconds=max_seconds,
            ray_map=ray_map,
            agent_map=agent_map,
            ground_map=ground_map,
        ).plus(more)
        for condition in self.conditions:
            encoder = condition.make_encoder(dim)
            if not isinstance(encoder, nn.Module):
                raise ValueError(
                    f"conditions: {type(condition).__name__}.make_encoder: expected an nn.Module, got "
                    f"{type(encoder).__name__}; return one"
                )
            self.add_module(condition.name, encoder)

    def forward(
        self,
        conditioning: Mapping[str, torch.Tensor],
        camera_mask: torch.Tensor | None = None,
        grid: tuple[int, int] | None = None,
    ) -> EncoderOutput:
        """Embed a conditioning.

        Axes are always checked. Values are checked here only on the CPU outside of `torch.compile`, where that costs
        next to nothing; `check_conditioning` checks them anywhere, and more of them.

        Args:
            conditioning: Tensors by name, as `scene_conditioning` makes them; their axes are those of the conditions'
                keys. A key left out is absent; only `timestamps`, `intrinsics` and `extrinsics` must be there, and a
                missing distortion is none.
            camera_mask: Boolean `(b, n)`, true for cameras that take part; what the others hold is not looked at.
            grid: Rows and columns h, w of the latents; needed for maps only.

        Returns:
            Action, position, tokens and mask.

        Raises:
            ValueError: If a key is missing or unknown, axes do not fit, a value is out of range, or an encoder gives
                something else than its condition promises; the message names what was expected and what came.
        """
        sizes = check_axes_of(conditioning, self.conditions)
        if camera_mask is not None:
            conditioning = blank_cameras(dict(conditioning), camera_mask, self.conditions)
        like = next(value for value in conditioning.values() if value.is_floating_point())
        if like.device.type == "cpu" and not torch.compiler.is_compiling():
            check_values(conditioning, self.conditions)
        given = {**conditioning, **self._absent(conditioning, like, sizes)}

        entered: dict[str, list[torch.Tensor]] = {"modulation": [], "position": [], "tokens": [], "global": []}
        masks: list[torch.Tensor] = []
        for condition in self.conditions:
            encoded = condition.encode(getattr(self, condition.name), given, grid)
            if encoded is None:
                continue
            if condition.enters == "tokens":
                tokens, mask = self._tokens(condition, encoded, sizes)
                entered["tokens"].append(tokens)
                masks.append(mask)
            else:
                entered[condition.enters].append(self._checked(condition, encoded, sizes, grid))
        everywhere = repeat(torch.cat(entered["global"], dim=1), "b k c -> b t n k c", t=sizes["t"], n=sizes["n"])
        masks.append(torch.ones(everywhere.shape[:-1], dtype=torch.bool, device=everywhere.device))
        return EncoderOutput(
            _sum(entered["modulation"]),
            _sum(entered["position"]),
            torch.cat([*entered["tokens"], everywhere], dim=3),
            torch.cat(masks, dim=3),
        )

    def _absent(
        self, conditioning: Mapping[str, torch.Tensor], like: torch.Tensor, sizes: Mapping[str, int]
    ) -> Conditioning:
        """Absent values for the keys that are left out and whose sizes are known."""
        absent = {}
        for key, spec in self.conditions.keys.items():
            shape = spec.shape(sizes) if spec.droppable and key not in conditioning else None
            if shape is not None:
                empty = like.new_empty(shape, dtype=torch.int64 if spec.integer else None)
                absent[key] = self.conditions.owner[key].absent_like(key, empty)
        return absent

    def _checked(
        self, condition: Condition, encoded: object, sizes: Mapping[str, int], grid: tuple[int, int] | None
    ) -> torch.Tensor:
        """What an encoder gave, if it has the axes of where it enters."""
        axes = {"modulation": "b t c", "position": "b t n h w c", "global": "b k c"}[condition.enters]
        cells = {} if grid is None else dict(zip("hw", grid, strict=True))
        free = "tnhw" if condition.enters == "position" else ""
        return _check_encoded(condition, encoded, axes, {**sizes, **cells, "c": self.dim}, free)

    def _tokens(
        self, condition: Condition, encoded: object, sizes: Mapping[str, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens `(b, t, n, k, c)` and their mask `(b, t, n, k)` that an encoder gave, for all times and cameras."""
        if not isinstance(encoded, tuple) or len(encoded) != 2:
            raise ValueError(
                f"{condition.name}: expected its encoder to give tokens and their mask, got {type(encoded).__name__}; "
                "return both, the mask true where there is a token"
            )
        tokens = _check_encoded(condition, encoded[0], "b t n k c", {**sizes, "c": self.dim}, "tn")
        mask = _check_encoded(condition, encoded[1], "b t n k", {**sizes, "k": tokens.shape[3]}, "tn")
        whole = (sizes["b"], sizes["t"], sizes["n"], tokens.shape[3])
        return tokens.expand(*whole, self.dim), mask.expand(whole)


def _sum(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _check_encoded(
    condition: Condition, encoded: object, axes: str, sizes: Mapping[str, int], free: str
) -> torch.Tensor:
    """Check the axes of what an encoder gave; those of `free` may be 1."""
    name = f"{condition.name}: what its encoder gives"
    if not isinstance(encoded, torch.Tensor):
        raise ValueError(f"{name}: expected a tensor ({', '.join(axes.split())}), got {type(encoded).__name__}")
    known = {letter: sizes[letter] for letter in axes.split() if letter in sizes}
    for letter, size in zip(axes.split(), encoded.shape, strict=False):
        if letter in free and size == 1:
            known[letter] = 1
    check_axes(name, encoded, axes, hint=f"see {type(condition).__name__}.make_encoder", **known)
    return encoded
