"""The default model: small weights that come inside the package."""

from __future__ import annotations

from pathlib import Path


def default_model() -> Path:
    """Folder of the default model, for `Gaia2Pipeline.from_pretrained`.

    Raises:
        FileNotFoundError: If the installation has no weights.

    Example:
        >>> (default_model() / "model_index.json").is_file()
        True
    """
    path = Path(__file__).parent / "mini"
    if not (path / "model_index.json").is_file():
        raise FileNotFoundError(
            f"{path}: expected the default model's weights, which come with the package; install gaia2 again, or train "
            "them with `make zoo`"
        )
    return path
