"""Tables that people write by hand or script: CSV, or JSON rows or columns; what is wrong in them is named."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["TIME_UNITS", "find_table", "read_numbers", "read_table"]

TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Seconds of a unit of time."""


def find_table(stem: Path) -> Path | None:
    """Return `<stem>.csv` or `<stem>.json`, whichever is there.

    Raises:
        ValueError: Both are.
    """
    found = [path for path in (stem.with_name(f"{stem.name}.{kind}") for kind in ("csv", "json")) if path.is_file()]
    if len(found) > 1:
        raise ValueError(f"{stem}: expected one table, got {found[0].name} and {found[1].name}; remove one")
    return found[0] if found else None


def read_table(path: Path) -> dict[str, list[Any]]:
    """Return the columns of a table by name.

    Args:
        path: CSV with a line of names, or JSON: a list of objects, or an object of lists.

    Raises:
        ValueError: It is none, or a row has another number of columns than the first line.
    """
    if path.suffix == ".json":
        data = _json(path)
        if isinstance(data, dict) and all(isinstance(column, list) for column in data.values()):
            if len({len(column) for column in data.values()}) > 1:
                raise ValueError(f"{path}: expected columns of one length, got {_lengths(data)}")
            return data
        if isinstance(data, list) and all(isinstance(row, dict) for row in data):
            names = list(data[0]) if data else []
            for number, row in enumerate(data):
                if list(row) != names:
                    raise ValueError(f"{path}: row {number}: expected the keys {names}, got {list(row)}")
            return {name: [row[name] for row in data] for name in names}
        raise ValueError(f"{path}: expected a JSON list of objects, or an object of lists")
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = list(csv.reader(file))
    if not lines:
        raise ValueError(f"{path}: expected a first line with the columns' names, got an empty file")
    names = [name.strip() for name in lines[0]]
    rows = [(number, row) for number, row in enumerate(lines[1:], 2) if row]
    for number, row in rows:
        if len(row) != len(names):
            raise ValueError(
                f"{path}: line {number}: expected {len(names)} values ({', '.join(names)}), got {len(row)}"
            )
    return {name: [row[column].strip() for _, row in rows] for column, name in enumerate(names)}


def read_numbers(
    path: Path, table: dict[str, list[Any]], names: Sequence[str], *, optional: bool = False
) -> np.ndarray:
    """Return columns of a table as numbers (k, len(names)).

    Args:
        path: Where the table comes from, for messages.
        table: What `read_table` gave.
        names: Of the columns.
        optional: Whether a column may be missing, and a value empty: NaN.

    Raises:
        ValueError: A column is missing, or a value is no finite number; the message names file, column and row.
    """
    columns = []
    for name in names:
        if name not in table:
            if not optional:
                raise ValueError(f"{path}: expected the columns {', '.join(names)}, got {', '.join(table) or 'none'}")
            columns.append(np.full(len(next(iter(table.values()), [])), np.nan))
            continue
        columns.append(np.array([_number(path, name, row, value, optional) for row, value in enumerate(table[name])]))
    return np.stack(columns, axis=1).astype(np.float64)


def _number(path: Path, name: str, row: int, value: Any, optional: bool) -> float:
    if optional and value in ("", None):
        return float("nan")
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise ValueError(f"{path}: column {name}, row {row}: expected a finite number, got {value!r}")
    return number


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, got text that is not ({error})") from error


def _lengths(data: dict[str, list[Any]]) -> str:
    return ", ".join(f"{name} {len(column)}" for name, column in data.items())
