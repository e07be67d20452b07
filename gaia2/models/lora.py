"""LoRA adapters of the models: files with and without the name of the component in their keys."""

from __future__ import annotations

from os import PathLike
from typing import Any

import torch
from diffusers.loaders import PeftAdapterMixin
from diffusers.loaders.lora_base import _fetch_state_dict
from diffusers.utils import is_peft_available

HUB_OPTIONS = ("cache_dir", "force_download", "proxies", "local_files_only", "token", "revision", "subfolder")
LoraSource = str | PathLike[str] | dict[str, torch.Tensor]


def read_lora(source: LoraSource, **options: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any] | None]:
    """Read the tensors and the metadata of a LoRA file.

    Args:
        source: A folder, a repo id, or the tensors themselves.
        **options: `weight_name`, those of `HUB_OPTIONS`, and the `metadata` of tensors that are handed in.

    Returns:
        Tensors by name, and the adapter's metadata where there is some.

    Raises:
        OSError: If there is no such file.
    """
    arguments = {name: options.get(name) for name in (*HUB_OPTIONS, "weight_name", "metadata")}
    arguments["force_download"] = bool(arguments["force_download"])
    return _fetch_state_dict(
        dict(source) if isinstance(source, dict) else source,
        use_safetensors=True,
        allow_pickle=False,
        user_agent={"file_type": "attn_procs_weights", "framework": "pytorch"},
        **arguments,
    )


class LoraAdapterMixin(PeftAdapterMixin):
    """diffusers' `PeftAdapterMixin`, whose `load_lora_adapter` reads what `save_lora_adapter` writes as it is.

    A pipeline's LoRA files name the component before each key ("transformer.proj_in..."), a model's do not; both load
    without further words.
    """

    lora_prefix = "transformer"

    def load_lora_adapter(
        self,
        pretrained_model_name_or_path_or_dict: LoraSource,
        prefix: str | None = None,
        hotswap: bool = False,
        **kwargs: Any,
    ) -> None:
        """Add the adapter of a file, and use it.

        Args:
            pretrained_model_name_or_path_or_dict: A folder, a repo id, or tensors by name.
            prefix: Name before the keys of this model; by default the component's own, if the keys have it.
            hotswap: Put the weights into the adapter `adapter_name` that is there.
            **kwargs: Diffusers' `adapter_name`, `weight_name`, `low_cpu_mem_usage`, `metadata`, and those of the hub.

        Raises:
            ImportError: If peft is not installed.
            OSError: If there is no such file.
            ValueError: If it holds no weights of this model.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> from gaia2 import WorldModel
            >>> from peft import LoraConfig
            >>> model = WorldModel(latent_channels=4, dim=32, num_heads=2, num_blocks=1)
            >>> model.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
            >>> with TemporaryDirectory() as folder:
            ...     model.save_lora_adapter(folder)
            ...     model.unload_lora()
            ...     model.load_lora_adapter(folder, adapter_name="mine")
            >>> list(model.peft_config)
            ['mine']
        """
        check_peft()
        tensors, metadata = read_lora(pretrained_model_name_or_path_or_dict, **kwargs)
        if prefix is None and any(name.startswith(f"{self.lora_prefix}.") for name in tensors):
            prefix = self.lora_prefix
        if not any(prefix is None or name.startswith(f"{prefix}.") for name in tensors):
            own = "keys" if prefix is None else f"keys that begin with {prefix!r}"
            raise ValueError(
                f"pretrained_model_name_or_path_or_dict: expected {own} of a {type(self).__name__}, got "
                f"{', '.join(sorted(tensors)[:2]) or 'an empty file'}; give the file of an adapter of this model"
            )
        rest = {name: value for name, value in kwargs.items() if name not in (*HUB_OPTIONS, "weight_name", "metadata")}
        super().load_lora_adapter(tensors, prefix=prefix, hotswap=hotswap, metadata=metadata, **rest)


def check_peft() -> None:
    """Say what to install where peft is missing.

    Raises:
        ImportError: If it is.
    """
    if not is_peft_available():
        raise ImportError("LoRA: expected the package peft, which is not installed; pip install 'gaia2[lora]'")
