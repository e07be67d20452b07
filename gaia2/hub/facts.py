"""What is known of a folder of weights, for its card: read from its files, nothing is made up."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaia2._checks import refuse
from gaia2.hub.safetensors_header import count

CARD = "README.md"
PICTURES = frozenset([".png", ".jpg", ".jpeg", ".webp", ".gif"])


@dataclass(frozen=True)
class Facts:
    """What a card is made of.

    Attributes:
        class_name: Of the pipeline, model or scheduler.
        configs: Config of each component by its folder; "" for what has no folder.
        parameters: Numbers in the weights of each component.
        kinds: Their number formats.
        sizes: Bytes of the weights of each component.
        manifest: What `manifest.json` says of the training; empty if there is none.
        evaluation: What `evaluation.json` of recipes/evaluate.py says; empty if there is none.
        pictures: Sample pictures, by their path in the folder.
        variants: Number formats in which the weights are there as well.
        guidance_scale: With which a pipeline is sampled by default; 1 is no guidance.
    """

    class_name: str
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    guidance_scale: float = 1.0


def read_facts(folder: str | Path) -> Facts:
    """Read what a folder says of itself.

    Args:
        folder: Of a pipeline, a model or a scheduler. `manifest.json`, `evaluation.json` and pictures in it are read
            where they are there.

    Raises:
        ValueError: If the folder holds none of them, or a file in it is damaged.

    Example:
        >>> import gaia2
        >>> facts = read_facts(gaia2.default_model())
        >>> facts.class_name, sorted(facts.parameters)
        ('Gaia2Pipeline', ['transformer', 'vae'])
    """
    folder = Path(folder)
    index = read_json(folder / "model_index.json")
    names = [name for name, said in index.items() if isinstance(said, list) and said[0]] if index else [""]
    configs = {name: _config(folder / name) for name in names}
    class_name = index.get("_class_name") or next(iter(configs.values())).get("_class_name")
    if not class_name:
        raise refuse("folder", "a folder that save_pretrained wrote", str(folder), "it has no config")
    weights = {name: sorted((folder / name).glob("*.safetensors")) for name in names}
    plain = {name: [p for p in files if variant_of(p) is None] or files for name, files in weights.items()}
    counts = {name: [count(path) for path in files] for name, files in plain.items() if files}
    return Facts(
        class_name=class_name,
        configs=configs,
        parameters={name: sum(numbers for numbers, _ in own) for name, own in counts.items()},
        kinds={name: tuple(sorted({kind for _, kinds in own for kind in kinds})) for name, own in counts.items()},
        sizes={name: sum(path.stat().st_size for path in plain[name]) for name in counts},
        manifest=read_json(folder / "manifest.json"),
        evaluation=read_json(folder / "evaluation.json"),
        pictures=tuple(p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.suffix in PICTURES),
        variants=tuple(sorted({v for files in weights.values() for v in map(variant_of, files) if v is not None})),
        guidance_scale=index.get("default_guidance_scale", 1.0),
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no file.

    Raises:
        ValueError: If there is something else in it.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got a file that holds none; is it damaged?")
    return content


def _config(folder: Path) -> dict[str, Any]:
    return read_json(folder / "config.json") or read_json(folder / "scheduler_config.json")


def variant_of(path: str | Path) -> str | None:
    """The variant that a file of weights is of, as its name says.

    Example:
        >>> variant_of("vae/model.bf16-00001-of-00002.safetensors"), variant_of("model.safetensors")
        ('bf16', None)
    """
    name = Path(path).name
    return name.split(".")[1].partition("-")[0] if name.endswith(".safetensors") and name.count(".") > 1 else None
