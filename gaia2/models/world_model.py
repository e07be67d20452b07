"""The latent world model: noisy latents of all cameras to their velocity (paper §2.2).

Axes: b batch, t latent time, n cameras, h w latent grid, c channels, k condition tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models._modeling_parallel import ContextParallelInput, ContextParallelOutput
from diffusers.models.attention import AttentionMixin
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import nn

from gaia2._checks import refuse
from gaia2._registration import register
from gaia2._typed import register_to_config
from gaia2.conditioning.condition import Condition
from gaia2.conditioning.encoder import ConditioningEncoder, EncodedConditioning, ReadyConditioning
from gaia2.conditioning.metadata import vocabulary_pairs
from gaia2.conditioning.registry import condition_from_config
from gaia2.conditioning.table import ConditionTable
from gaia2.models.config_checks import check_world_model
from gaia2.models.lora import LoraAdapterMixin
from gaia2.models.parts import SwappableParts, attentions, run_block
from gaia2.models.step_cache import StepCacheMixin
from gaia2.models.trained_range import widen
from gaia2.nn.attention import KeysValues
from gaia2.nn.blocks import ModuleFactory, WorldModelBlock
from gaia2.nn.embeddings import TimestepEmbedder, spatial_position_embedding
from gaia2.nn.norm import AdaptiveLayerNorm
from gaia2.nn.shapes import check_axes, check_bools, check_floats
from gaia2.scene import AGENT_CATEGORIES, METADATA, Scene
from gaia2.schedulers.checks import check_time


@register
class WorldModel(SwappableParts, ModelMixin, AttentionMixin, ConfigMixin, LoraAdapterMixin, StepCacheMixin):
    """Space-time factorized transformer that predicts the velocity of latents (paper §2.2.1, Eq. 3).

    Any number of cameras, any grid and any number of latent times can be given at run time. A subclass may name another
    `block_class`, `attention_class` or `conditioning_class`, see docs/swap_a_part.md.

    Args:
        latent_channels: Channels of a latent, the paper's L.
        dim: Channels inside, the paper's C.
        num_heads: Attention heads.
        num_blocks: Transformer blocks.
        mlp_ratio: Hidden channels of the MLPs as a multiple of `dim`.
        window_latents: Latent times of a training window, the paper's T; longer videos are made window by window.
        max_agents: Boxes a camera and time can be given.
        clip_dim: Width of CLIP embeddings.
        scenario_dim: Width of scenario embeddings.
        metadata: Names and allowed values of the metadata; the library's vocabulary by default. The config records
            them as a list of names and values, so that a model keeps its vocabulary whatever becomes of the library's.
        ray_map: Whether cells know where they look, see `RayMapEncoder`; not of the paper.
        agent_map: Whether cells know which agents they hold, see `AgentMapEncoder`; not of the paper.
        ground_map: Whether cells know which ground they see, see `GroundMapEncoder`; not of the paper.
        agent_categories: What agents can be; the library's categories by default, and recorded likewise.
        conditions: Conditions of your own besides the paper's, see docs/add_a_condition.md; the config records their
            classes and fields.
        trained_conditions: Names of the conditions that training gave it, such as "speed"; None is unknown.
        trained_range: The most cameras ("cameras") and the times between latents ("seconds") that training gave it;
            None is unknown.

    Raises:
        ValueError: If a condition of your own does not fit the others, or its class is not registered.

    Example:
        >>> from gaia2.conditioning import scene_conditioning
        >>> from gaia2.scene import Scene
        >>> model = WorldModel(latent_channels=4, dim=32, num_heads=2, num_blocks=1)
        >>> conditioning = scene_conditioning(Scene.create(rig="front", num_frames=16, weather="snow"))
        >>> noise = torch.randn(1, 2, 1, 4, 8, 4)
        >>> model(noise, torch.zeros(1), conditioning).sample.shape
        torch.Size([1, 2, 1, 4, 8, 4])
    """

    block_class: ClassVar[type[nn.Module]] = WorldModelBlock
    attention_class: ClassVar[ModuleFactory | None] = None
    conditioning_class: ClassVar[type[ConditioningEncoder]] = ConditioningEncoder

    _supports_gradient_checkpointing = True
    _skip_layerwise_casting_patterns = ["norm", "time_embedder", "conditioning", "proj_in", "proj_out"]
    _cp_plan = {  # sharded over time; the temporal attention exchanges that for space
        "conditioning": {
            index: ContextParallelInput(split_dim=1, expected_dims=dims, split_output=True)
            for index, dims in enumerate((3, 6, 5, 4))
        },
        "transformer_blocks.0": {"hidden_states": ContextParallelInput(split_dim=1, expected_dims=6)},
        "transformer_blocks.*": {"known_mask": ContextParallelInput(split_dim=1, expected_dims=5)},
        "proj_out": ContextParallelOutput(gather_dim=1, expected_dims=6),
    }

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 64,
        dim: int = 4096,
        num_heads: int = 32,
        num_blocks: int = 22,
        mlp_ratio: float = 4.0,
        window_latents: int = 6,
        max_agents: int = 16,
        clip_dim: int = 768,
        scenario_dim: int = 512,
        metadata: Mapping[str, Sequence[Any]] | Sequence[tuple[str, Sequence[Any]]] | None = None,
        ray_map: bool = False,
        agent_map: bool = False,
        ground_map: bool = False,
        agent_categories: Sequence[str] | None = None,
        conditions: Sequence[Condition | Mapping[str, Any]] = (),
        trained_conditions: Sequence[str] | None = None,
        trained_range: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_world_model(self.config)
        vocabulary = dict(METADATA if metadata is None else metadata)
        categories = AGENT_CATEGORIES if agent_categories is None else agent_categories
        more = [condition_from_config(condition) for condition in conditions]
        self.register_to_config(
            metadata=vocabulary_pairs(vocabulary),
            agent_categories=list(categories),
            conditions=[condition.to_config() for condition in more],
        )
        self.proj_in = nn.Linear(latent_channels, dim)
        self.time_embedder = TimestepEmbedder(dim=dim)
        self.conditioning = self.conditioning_class(
            dim=dim,
            vocabulary=vocabulary,
            agent_categories=categories,
            max_agents=max_agents,
            clip_dim=clip_dim,
            scenario_dim=scenario_dim,
            ray_map=ray_map,
            agent_map=agent_map,
            ground_map=ground_map,
            more=more,
        )
        parts = attentions(self.attention_class, "spatial_attention", "temporal_attention", "cross_attention")
        self.transformer_blocks = nn.ModuleList(
            self.block_class(dim=dim, num_heads=num_heads, mlp_ratio=mlp_ratio, **parts) for _ in range(num_blocks)
        )
        self.norm_out = AdaptiveLayerNorm(dim=dim)
        self.proj_out = nn.Linear(dim, latent_channels)
        with torch.no_grad():
            self.proj_out.weight.mul_(0.1)  # starts near the mean velocity
        nn.init.zeros_(self.proj_out.bias)
        self.gradient_checkpointing = False

    @property
    def conditions(self) -> ConditionTable:
        """All conditions that the model takes: how they are made from scenes, left out, and named."""
        return self.conditioning.conditions

    def untrained(self, scenes: Sequence[Scene]) -> list[str]:
        """Names of what scenes say that training never gave the model, so that it cannot obey; none if unknown.

        Example:
            >>> from gaia2 import Scene
            >>> model = WorldModel(latent_channels=4, dim=32, num_heads=2, num_blocks=1, trained_conditions=["speed"])
            >>> model.untrained([Scene.create("front", speed=3.0, curvature=None, weather="snow")])
            ['camera', 'timestamps', 'metadata']
        """
        trained = self.config.trained_conditions
        return [] if trained is None else [name for name in self.conditions.said_by(scenes) if name not in trained]

    def record_trained(self, conditioning: Mapping[str, torch.Tensor]) -> None:
        """Add to the config what a training's conditioning holds: `trained_conditions` and `trained_range`.

        A model without a record counts as not trained before: if it was, give the conditionings of then, too.

        Args:
            conditioning: Tensors by name of all clips, or of a part of them; call it once for each part.
        """
        known = list(self.config.trained_conditions or ())
        new = [name for name in self.conditions.present_in(conditioning) if name not in known]
        self.register_to_config(trained_conditions=known + new)
        if "timestamps" in conditioning:
            self.register_to_config(trained_range=widen(self.config.trained_range, conditioning["timestamps"]))

    if TYPE_CHECKING:  # diffusers' own says less of what it gives

        @classmethod
        def from_pretrained(  # noqa: D102
            cls, pretrained_model_name_or_path: str | PathLike[str], **kwargs: Any
        ) -> Self: ...

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        conditioning: dict[str, torch.Tensor] | EncodedConditioning,
        known_mask: torch.Tensor | None = None,
        camera_mask: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[torch.Tensor]:
        """Predict the velocity `x - eps` of every token.

        Args:
            hidden_states: Normalised latents `(b, t, n, h, w, c)`: given tokens as they are, others at flow time
                `timestep`.
            timestep: Flow time `(b,)` in [0, 1]; 0 is noise, 1 is data.
            conditioning: Tensors by name, as `gaia2.conditioning.scene_conditioning` makes them; or what
                `encode_conditioning` made of them, which does not change from one denoising step to the next.
            known_mask: Boolean `(b, t, n, h, w)`, true for tokens that are given (context, or outside an inpainting
                mask); they are modulated as flow time 1.
            camera_mask: Boolean `(b, n)`, true for cameras that take part; the others influence nothing, whatever
                stands in their tokens and conditions.
            return_dict: Give an output object rather than a tuple.

        Returns:
            `sample`, the velocity `(b, t, n, h, w, c)`; at given tokens it has no meaning.

        Raises:
            ValueError: If axes or sizes do not fit, or a condition is missing.
        """
        self._check(hidden_states, timestep, conditioning, known_mask, camera_mask)
        h, w = hidden_states.shape[3:5]
        if not isinstance(conditioning, EncodedConditioning):
            conditioning = EncodedConditioning(*self.conditioning(conditioning, camera_mask, (h, w)))
        action, position, tokens, of_tokens, ready = conditioning
        if ready is None:
            ready = ReadyConditioning(None, (tokens,) * len(self.transformer_blocks), of_tokens)
        positions, of_blocks, mask = ready
        if positions is None:
            positions = self._positions(position, (h, w))
        modulation = rearrange(self.time_embedder(timestep), "b c -> b 1 c") + action
        known_modulation = None
        if known_mask is not None:
            known_modulation = rearrange(self.time_embedder(torch.ones_like(timestep)), "b c -> b 1 c") + action

        if camera_mask is not None:
            hidden_states = hidden_states.masked_fill(~rearrange(camera_mask, "b n -> b 1 n 1 1 1"), 0.0)
        hidden_states = self.proj_in(hidden_states)
        of_all = dict(
            known_modulation=known_modulation, known_mask=known_mask, condition_mask=mask, camera_mask=camera_mask
        )
        for block, context in zip(self.transformer_blocks, of_blocks, strict=True):
            hidden_states = run_block(self, partial(block, **of_all), hidden_states, positions, modulation, context)
        hidden_states = self.norm_out(hidden_states, rearrange(modulation, "b t c -> b t 1 1 1 c"))
        velocity = self.proj_out(hidden_states)
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)

    def encode_conditioning(
        self,
        conditioning: dict[str, torch.Tensor],
        camera_mask: torch.Tensor | None = None,
        grid: tuple[int, int] | None = None,
    ) -> EncodedConditioning:
        """Encode the conditions once for several calls of `forward`: they do not depend on the flow time.

        `prepare` computes more of what stays.

        Args:
            conditioning: Tensors by name, as `gaia2.conditioning.scene_conditioning` makes them.
            camera_mask: Boolean `(b, n)`, as in `forward`.
            grid: Rows and columns of the latents; needed by models with maps only.

        Returns:
            What `forward` takes in place of `conditioning`.

        Raises:
            ValueError: If axes or sizes do not fit, or a condition is missing.
        """
        offload = getattr(self, "_hf_hook", None)
        if offload is not None:  # accelerate brings the model to its device only before `forward`
            offload.pre_forward(self)
        return EncodedConditioning(*self.conditioning(conditioning, camera_mask, grid))

    def prepare(self, encoded: EncodedConditioning, grid: tuple[int, int] | None = None) -> EncodedConditioning:
        """Compute what does not change from one step to the next: positions, and keys and values of the conditions.

        What is done to the weights afterwards shows only in the next call. On a CPU, condition tokens that no sample,
        time and camera has are left out: they would be masked everywhere. (Elsewhere it would be waited for, and
        compiled blocks keep their shapes.)

        Args:
            encoded: Encoded conditions, maybe of several encodings put together along b.
            grid: Rows and columns of the latents; None leaves the positions to `forward`.

        Returns:
            The same, with `ready`.

        Example:
            >>> from gaia2.conditioning import scene_conditioning
            >>> model = WorldModel(latent_channels=4, dim=32, num_heads=2, num_blocks=1)
            >>> scene = Scene.create(rig="front", num_frames=16, weather="snow")  # without agents: no boxes, no mask
            >>> encoded = model.encode_conditioning(scene_conditioning(scene))
            >>> ready = model.prepare(encoded, grid=(4, 8)).ready
            >>> ready.tokens[0].key.shape, ready.mask
            (torch.Size([2, 13, 2, 16]), None)
        """
        positions = None if grid is None else self._positions(encoded.position, grid)
        tokens, mask = encoded.tokens, encoded.mask
        if tokens.device.type == "cpu":
            used = mask.flatten(0, 2).any(dim=0)
            tokens, mask = tokens[..., used, :], mask[..., used]
        everywhere = tokens.device.type == "cpu" and bool(mask.all())
        of_blocks = tuple(self._keys_values(block, tokens) for block in self.transformer_blocks)
        return encoded._replace(ready=ReadyConditioning(positions, of_blocks, None if everywhere else mask))

    @staticmethod
    def _keys_values(block: nn.Module, tokens: torch.Tensor) -> KeysValues | torch.Tensor:
        """Keys and values of a block of ours whose weights are at hand; of any other the tokens themselves."""
        make = getattr(block, "keys_values", None)
        weights = list(block.parameters())
        there = all(w.device == tokens.device and not hasattr(w, "placements") for w in weights)  # neither offloaded,
        held = make(tokens) if make is not None and there else None  # nor a shard
        return tokens if held is None else held

    def _positions(self, position: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Where each token is: `position` of its camera and time, and that of the cell in the grid."""
        space = spatial_position_embedding(*grid, self.config.dim, device=position.device)
        return position + space.to(position.dtype)

    @classmethod
    def block_classes(cls) -> list[type[nn.Module]]:
        """The class of the transformer blocks."""
        return [cls.block_class]

    def _check(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        conditioning: dict[str, torch.Tensor] | EncodedConditioning,
        known_mask: torch.Tensor | None,
        camera_mask: torch.Tensor | None,
    ) -> None:
        check_floats(
            "hidden_states",
            hidden_states,
            "b t n h w c",
            c=self.config.latent_channels,
            hint="encode the frames with this pipeline's VideoTokenizer",
        )
        b, t, n, h, w, _ = hidden_states.shape
        check_axes("timestep", timestep, "b", b=b, hint="give one flow time a sample")
        if not torch.compiler.is_compiling():
            check_time("timestep", timestep)
        if not isinstance(conditioning, EncodedConditioning | Mapping):
            raise refuse("conditioning", "tensors by name, as scene_conditioning makes them", conditioning)
        if not isinstance(conditioning, EncodedConditioning) and "timestamps" in conditioning:
            hint = "make the conditions of these latents with scene_conditioning"
            check_axes("timestamps", conditioning["timestamps"], "b t n", b=b, t=t, n=n, hint=hint)
        if known_mask is not None:
            check_bools("known_mask", known_mask, "b t n h w", b=b, t=t, n=n, h=h, w=w)
        if camera_mask is not None:
            check_bools("camera_mask", camera_mask, "b n", b=b, n=n)
        parallel = None if self._parallel_config is None else self._parallel_config.context_parallel_config
        if parallel is not None and not (parallel.ulysses_anything or parallel.ring_anything):
            size = parallel._flattened_mesh.size()
            if t % size:
                raise ValueError(
                    f"hidden_states: expected latent times in a multiple of the {size} processes that share them, got "
                    f"{t}; use another number of processes, or ContextParallelConfig(ulysses_anything=True)"
                )
