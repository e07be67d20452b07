"""A folder made ready for publishing: weights in shards and formats, clean configs, pictures and the card."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gaia2._checks import refuse
from gaia2._files import replacing
from gaia2.hub.card import model_card
from gaia2.hub.facts import CARD, PICTURES, read_facts, read_json, variant_of
from gaia2.hub.folder import contents, list_contents, sha256
from gaia2.hub.shards import parse_size, write_weights


@dataclass(frozen=True)
class CardOptions:
    """What a card says beside what is read from the folder.

    Attributes:
        license: Of the weights, as the hub names it.
        data: Data that they were trained on, each with its licence.
        about: A paragraph of yours.
        evaluation: `evaluation.json` of recipes/evaluate.py.
        pictures: Sample pictures.
    """

    license: str = "apache-2.0"
    data: Sequence[str] = ()
    about: str = ""
    evaluation: str | os.PathLike[str] | None = None
    pictures: Sequence[str | os.PathLike[str]] = ()

    def __post_init__(self) -> None:
        if not self.license.strip():
            raise refuse("license", "a licence, as the hub names it", self.license, "apache-2.0 is one")
        if isinstance(self.data, str):
            raise refuse("data", "a list of sentences", self.data)
        for path in self.pictures:
            if Path(path).suffix.lower() not in PICTURES or not Path(path).is_file():
                raise refuse("pictures", f"files of {', '.join(sorted(PICTURES))}", str(path))
        if self.evaluation is not None and not read_json(Path(self.evaluation)):
            raise refuse("evaluation", "an evaluation.json of recipes/evaluate.py", str(self.evaluation))


def stage(
    source: str | Path,
    target: str | Path,
    repo_id: str,
    card: CardOptions | None = None,
    *,
    max_shard_size: int | str = "5GB",
    variants: Sequence[str] = (),
) -> Path:
    """Make a folder that can be published as it is. Weights that are small enough stay as they are, bit for bit.

    Args:
        source: Folder of a pipeline, a model or a scheduler.
        target: Folder to fill, empty.
        repo_id: The repository, for the card.
        card: What the card says beside what is read.
        max_shard_size: Bytes of a file of weights; larger ones are divided.
        variants: Formats in which the weights are written as well: "bf16", "fp16", "fp32".

    Raises:
        ValueError: If there is nothing to publish, a file is a pickle, or one holds something private.
    """
    source, target, card = Path(source), Path(target), card or CardOptions()
    limit = parse_size(max_shard_size)
    names = list_contents(source).files
    folders = sorted({Path(name).parent for name in names if name.endswith(".safetensors")})
    for name in names:
        if not name.endswith((".safetensors", ".index.json")) and name != CARD:
            _put(source / name, target / name)
    for folder in folders:
        weights = sorted(path for path in (source / folder).glob("*.safetensors"))
        plain = [path for path in weights if variant_of(path) is None]
        if all(path.stat().st_size <= limit for path in weights) or not plain:
            for path in (*weights, *(source / folder).glob("*.index*.json")):
                _put(path, target / folder / path.name)
        else:
            write_weights(plain, target / folder, limit)
        for variant in variants:
            write_weights(plain or weights, target / folder, limit, variant)
    clean_configs(target)
    if card.evaluation is not None:
        _put(Path(card.evaluation), target / "evaluation.json")
    for path in map(Path, card.pictures):
        _put(path, target / "samples" / path.name)
    _renew_manifest(target)
    write_card(target, repo_id, card)
    contents(target)
    return target


def write_card(folder: str | Path, repo_id: str, card: CardOptions | None = None) -> Path:
    """Write the card of a folder, from what is in it; gives its path."""
    card, path = card or CardOptions(), Path(folder) / CARD
    said = model_card(read_facts(folder), repo_id, license=card.license, data=card.data, about=card.about)
    with replacing(path) as unfinished:
        unfinished.write_text(said, encoding="utf-8")
    return path


def clean_configs(folder: str | Path) -> None:
    """Take out of configs where on this computer they were loaded from."""
    for path in sorted(Path(folder).rglob("*.json")):
        content = read_json(path) if path.name.endswith(("config.json", "model_index.json")) else {}
        came_from = str(content.get("_name_or_path", ""))
        if Path(came_from).is_absolute() or came_from.startswith((".", "~")) or "\\" in came_from:
            content.pop("_name_or_path")
            text = json.dumps(content, indent=2, sort_keys=True) + "\n"
            with replacing(path) as unfinished:
                unfinished.write_text(text, encoding="utf-8")


def _put(source: Path, target: Path) -> None:
    """A file in another folder, without a second copy of it where the system can."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".safetensors":
        try:
            os.symlink(source.resolve(), target)
            return
        except OSError:  # systems without links
            pass
    shutil.copyfile(source, target)


def _renew_manifest(folder: Path) -> None:
    """Bring the hashes of a manifest to the files as they are published."""
    manifest = read_json(folder / "manifest.json")
    if "files" not in manifest:
        return
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
    kept = [name for name in names if name not in ("manifest.json", CARD) and not name.startswith("samples/")]
    manifest["files"] = {name: sha256(folder / name) for name in kept}
    with replacing(folder / "manifest.json") as unfinished:
        unfinished.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
