"""LoRA of the pipelines, under diffusers' names: the world model's adapters, from files and to files."""

from __future__ import annotations

from os import PathLike
from typing import Any

import torch
from diffusers.loaders.lora_base import LoraBaseMixin

from gaia2.models.lora import LoraSource, check_peft, read_lora


class LoraLoaderMixin(LoraBaseMixin):
    """Loads, saves, weighs and fuses LoRA adapters of a pipeline's world model, as diffusers' pipelines do.

    `set_adapters`, `get_list_adapters`, `get_active_adapters`, `enable_lora`, `disable_lora`, `delete_adapters`,
    `unload_lora_weights` and `set_lora_device` are diffusers' own.
    """

    _lora_loadable_modules = ["transformer"]
    transformer_name = "transformer"
    transformer: Any

    @classmethod
    def lora_state_dict(cls, pretrained_model_name_or_path_or_dict: LoraSource, **kwargs: Any) -> Any:
        """The tensors of a LoRA file by name, and its metadata with `return_lora_metadata=True`."""
        with_metadata = kwargs.pop("return_lora_metadata", False)
        tensors, metadata = read_lora(pretrained_model_name_or_path_or_dict, **kwargs)
        return (tensors, metadata) if with_metadata else tensors

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: LoraSource,
        adapter_name: str | None = None,
        hotswap: bool = False,
        **kwargs: Any,
    ) -> None:
        """Add the adapter of a file to the world model, and use it.

        Args:
            pretrained_model_name_or_path_or_dict: A folder, a repo id, or tensors by name; of `save_lora_weights` or
                of `WorldModel.save_lora_adapter`.
            adapter_name: What to call it; "default_0" and so on by default.
            hotswap: Put the weights into the adapter of this name that is there.
            **kwargs: See `gaia2.models.lora.LoraAdapterMixin.load_lora_adapter`.

        Raises:
            ImportError: If peft is not installed.
            OSError: If there is no such file.
            ValueError: If it holds no weights of the world model.
        """
        self.transformer.load_lora_adapter(
            pretrained_model_name_or_path_or_dict,
            adapter_name=adapter_name,
            hotswap=hotswap,
            _pipeline=self,
            **kwargs,
        )

    @classmethod
    def save_lora_weights(
        cls,
        save_directory: str | PathLike[str],
        transformer_lora_layers: dict[str, torch.Tensor] | torch.nn.Module,
        is_main_process: bool = True,
        weight_name: str | None = None,
        save_function: Any = None,
        safe_serialization: bool = True,
        transformer_lora_adapter_metadata: dict[str, Any] | None = None,
    ) -> None:
        """Write an adapter of the world model to a file that `load_lora_weights` reads.

        Args:
            save_directory: The folder; made if it is not there.
            transformer_lora_layers: What `peft.utils.get_peft_model_state_dict(pipe.transformer)` gives.
            is_main_process: As in diffusers.
            weight_name: Name of the file; diffusers' own by default.
            save_function: As in diffusers.
            safe_serialization: As in diffusers; nothing here reads other files.
            transformer_lora_adapter_metadata: The adapter's config as a dict, with its alpha.

        Raises:
            ValueError: If there are no layers.
        """
        if not transformer_lora_layers:
            raise ValueError(
                "transformer_lora_layers: expected tensors of an adapter, got none; give "
                "peft.utils.get_peft_model_state_dict(pipe.transformer)"
            )
        cls._save_lora_weights(
            save_directory=save_directory,
            lora_layers={cls.transformer_name: transformer_lora_layers},
            lora_metadata={cls.transformer_name: transformer_lora_adapter_metadata},
            is_main_process=is_main_process,
            weight_name=weight_name,
            save_function=save_function,
            safe_serialization=safe_serialization,
        )

    def fuse_lora(
        self,
        components: list[str] | None = None,
        lora_scale: float = 1.0,
        safe_fusing: bool = False,
        adapter_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the adapters to the world model's own weights; see diffusers' `fuse_lora`."""
        check_peft()
        names = self._lora_loadable_modules if components is None else components
        super().fuse_lora(names, lora_scale, safe_fusing, adapter_names, **kwargs)

    def unfuse_lora(self, components: list[str] | None = None, **kwargs: Any) -> None:
        """Take fused adapters out of the weights again; see diffusers' `unfuse_lora`."""
        check_peft()
        super().unfuse_lora(self._lora_loadable_modules if components is None else components, **kwargs)
