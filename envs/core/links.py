# SPDX-License-Identifier: Apache-2.0
"""Links between sites: fields that hold a row per origin with a value per destination, or something shorter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def form_of(value: Any) -> str:
    """Tell rows, ``(per link)``, from whatever else a field with links takes, ``(plain)``: the tags of its union."""
    first = value[0] if isinstance(value, list | tuple) and value else None
    return "(per link)" if isinstance(first, list | tuple) else "(plain)"


def check_rows(name: str, rows: Sequence[Any], count: int, each: str) -> None:
    """Refuse rows without a value for every destination; entries that are no rows are passed over.

    Args:
        name: Name of the field.
        rows: What it holds.
        count: Number of destinations.
        each: What one is called.

    Raises:
        ValueError: If a row is too short or too long.
    """
    for origin, row in enumerate(rows):
        if isinstance(row, tuple) and len(row) != count:
            raise ValueError(f"{name}.{origin} has {len(row)} entries, but needs one per {each}")
