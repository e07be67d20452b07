"""The tables of nuScenes, read scene by scene: https://www.nuscenes.org/nuscenes#data-format.

The tables of the whole dataset hold millions of rows: they are read row by row, and what is not of a camera or of
an annotation is dropped at once.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["TABLES", "SceneRows", "Tables", "find_version", "read_tables"]

TABLES = (
    "attribute",
    "calibrated_sensor",
    "category",
    "ego_pose",
    "instance",
    "log",
    "sample",
    "sample_annotation",
    "sample_data",
    "scene",
    "sensor",
)


@dataclass
class SceneRows:
    """What belongs to one scene.

    Attributes:
        scene: Its row.
        log: The row of its log.
        samples: Rows of its keyframes.
        pictures: Channel of a camera to the rows of its pictures, keyframes and sweeps, in time.
        annotations: Rows of its boxes, with the category's name and the keyframe's time.
    """

    scene: dict[str, Any]
    log: dict[str, Any]
    samples: list[dict[str, Any]] = field(default_factory=list)
    pictures: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    annotations: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Tables:
    """All scenes of a version of the dataset.

    Attributes:
        scenes: Name to rows.
        calibrations: Token to row of a calibrated sensor.
        poses: Token to (timestamp, translation, rotation), of camera pictures only.
    """

    scenes: dict[str, SceneRows]
    calibrations: dict[str, dict[str, Any]]
    poses: dict[str, tuple[int, Sequence[float], Sequence[float]]]


def find_version(root: Path) -> Path:
    """Return the folder of the tables below a dataset's folder, such as `v1.0-trainval`, or the folder itself.

    Raises:
        FileNotFoundError: There is none, or a table is missing.
        ValueError: There are several.
    """
    found = [path for path in [root, *sorted(root.glob("v1.0-*"))] if (path / "scene.json").is_file()]
    if not found:
        raise FileNotFoundError(
            f"{root}: expected nuScenes, v1.0-<split>/ with {', '.join(TABLES)}.json, got no tables"
        )
    if len(found) > 1:
        raise ValueError(f"{root}: expected one version, got {[path.name for path in found]}; name the folder of one")
    missing = [name for name in TABLES if name != "attribute" and not (found[0] / f"{name}.json").is_file()]
    if missing:
        raise FileNotFoundError(f"{found[0]}: no table {missing[0]}.json; expected {', '.join(TABLES)}")
    return found[0]


@lru_cache(maxsize=2)
def read_tables(folder: Path) -> Tables:
    """Return the tables of a version, each process once.

    Raises:
        ValueError: A table is damaged, or refers to a row that is not there; the message names both.
    """
    logs = _by_token(folder, "log")
    scenes = {
        row["token"]: SceneRows(row, _look_up(logs, row["log_token"], folder, "scene", "log"))
        for row in _rows(folder, "scene", ("token", "name", "log_token"))
    }
    samples = _by_token(folder, "sample", ("timestamp", "scene_token"))
    for sample in samples.values():
        _look_up(scenes, sample["scene_token"], folder, "sample", "scene").samples.append(sample)
    poses = _read_pictures(folder, scenes, samples)
    _read_annotations(folder, scenes, samples)
    calibrations = _by_token(folder, "calibrated_sensor", ("translation", "rotation", "camera_intrinsic"))
    return Tables({rows.scene["name"]: rows for rows in scenes.values() if rows.samples}, calibrations, poses)


def _read_pictures(
    folder: Path, scenes: dict[str, SceneRows], samples: dict[str, dict[str, Any]]
) -> dict[str, tuple[int, Sequence[float], Sequence[float]]]:
    sensors = _by_token(folder, "sensor", ("channel", "modality"))
    channels = {
        row["token"]: sensor["channel"]
        for row in _rows(folder, "calibrated_sensor", ("token", "sensor_token"))
        for sensor in [_look_up(sensors, row["sensor_token"], folder, "calibrated_sensor", "sensor")]
        if sensor["modality"] == "camera"
    }
    wanted = set()
    keys = ("sample_token", "ego_pose_token", "calibrated_sensor_token", "timestamp", "filename", "height", "width")
    for row in _rows(folder, "sample_data", keys):
        channel = channels.get(row["calibrated_sensor_token"])
        if channel is None:
            continue
        sample = _look_up(samples, row["sample_token"], folder, "sample_data", "sample")
        scenes[sample["scene_token"]].pictures[channel].append({key: row[key] for key in keys})
        wanted.add(row["ego_pose_token"])
    for rows in scenes.values():
        for pictures in rows.pictures.values():
            pictures.sort(key=lambda row: row["timestamp"])
    poses = _rows(folder, "ego_pose", ("token", "timestamp", "translation", "rotation"))
    return {
        row["token"]: (row["timestamp"], tuple(row["translation"]), tuple(row["rotation"]))
        for row in poses
        if row["token"] in wanted
    }


def _read_annotations(folder: Path, scenes: dict[str, SceneRows], samples: dict[str, dict[str, Any]]) -> None:
    categories, instances = _by_token(folder, "category", ("name",)), _by_token(folder, "instance", ("category_token",))
    for row in _rows(
        folder, "sample_annotation", ("sample_token", "instance_token", "translation", "size", "rotation")
    ):
        sample = _look_up(samples, row["sample_token"], folder, "sample_annotation", "sample")
        instance = _look_up(instances, row["instance_token"], folder, "sample_annotation", "instance")
        category = _look_up(categories, instance["category_token"], folder, "instance", "category")
        scenes[sample["scene_token"]].annotations.append(
            {
                "timestamp": sample["timestamp"],
                "instance": row["instance_token"],
                "category": category["name"],
                "translation": row["translation"],
                "size": row["size"],
                "rotation": row["rotation"],
            }
        )


def _by_token(folder: Path, table: str, keys: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    return {row["token"]: row for row in _rows(folder, table, ("token", *keys))}


def _look_up(rows: dict[str, Any], token: str, folder: Path, table: str, other: str) -> Any:
    if token not in rows:
        raise ValueError(
            f"{folder / f'{table}.json'}: expected rows of the table {other}, got its token {token!r}, which is not "
            "there; are the tables of one version?"
        )
    return rows[token]


def _rows(folder: Path, table: str, keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The rows of a table, one after the other, checked to have `keys`."""
    path = folder / f"{table}.json"
    text = path.read_text(encoding="utf-8")
    decoder = json.JSONDecoder()
    place = text.find("[") + 1
    if place == 0 or text[: place - 1].strip():
        raise ValueError(f"{path}: expected a JSON list of rows, got something else; get the table again")
    try:
        while True:
            while text[place] in " \t\r\n,":
                place += 1
            if text[place] == "]":
                return
            row, place = decoder.raw_decode(text, place)
            for key in keys:
                if key not in row:
                    raise ValueError(f"{path}: expected {key!r} in every row, got {sorted(row)}")
            yield row
    except (IndexError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: expected a whole JSON list, it ends or is damaged at character {place}") from error
