# SPDX-License-Identifier: Apache-2.0
"""What has happened lately, numbered: a list that forgets its beginning."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

MOST = 64
"""Entries that are kept."""


class Recent:
    """The latest entries of a list, each with a number and a time.

    Args:
        most: Entries that are kept.
        wall: Time of day, s since 1970.

    Attributes:
        count: Entries ever made; the number of the latest.
    """

    def __init__(self, most: int = MOST, wall: Callable[[], float] = time.time) -> None:
        self.count = 0
        self._entries: deque[dict[str, Any]] = deque(maxlen=most)
        self._wall = wall

    def add(self, **fields: Any) -> None:
        """Make an entry."""
        self.count += 1
        self._entries.append({"number": self.count, "at": round(self._wall(), 3), **fields})

    def since(self, number: int = 0) -> list[dict[str, Any]]:
        """Return the entries with higher numbers that are still there, the oldest first."""
        return [entry for entry in self._entries if entry["number"] > number]
