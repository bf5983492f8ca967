# SPDX-License-Identifier: Apache-2.0
"""What trials have reported, kept by the driver beside Tune's state and out of it.

A result that Tune hears of holds only what is new. The whole history of a trial would be written again with every state
and sent again with every report.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback

HISTORY_FILE = "history.jsonl"
FIRST, REPORTS = "first", "reports"
"""In a result: number of the first of its reports, and the reports."""


class Histories:
    """The reports of all trials, in memory and in a file that is only ever appended to.

    Args:
        folder: Where the file is.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / HISTORY_FILE
        self._trials: dict[str, list[dict[str, Any]]] = {}
        with contextlib.suppress(FileNotFoundError):
            data = self._file.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):  # the driver was killed in the middle of a line
                self._file.write_bytes(whole)
            for line in whole.splitlines():
                entry = json.loads(line)
                self._enter(entry["trial"], entry[FIRST], entry[REPORTS])

    def of(self, trial: str) -> list[dict[str, Any]]:
        """Reports of a trial."""
        return self._trials.get(trial, [])

    def add(self, trial: str, result: Mapping[str, Any]) -> None:
        """Enter what a result brings. After going back to a checkpoint, that begins with an earlier report."""
        if REPORTS not in result:
            return
        first, reports = int(result[FIRST]), list(result[REPORTS])
        self._enter(trial, first, reports)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"trial": trial, FIRST: first, REPORTS: reports}) + "\n")

    def _enter(self, trial: str, first: int, reports: list[dict[str, Any]]) -> None:
        self._trials.setdefault(trial, [])[first:] = reports


class _Present:
    """The histories of this process's search: Tune pickles its callbacks, so none of them can hold these."""

    histories: Histories | None = None


def remember(folder: Path) -> Histories:
    """Begin to keep the histories of a search, or go on, in this process."""
    _Present.histories = Histories(folder)
    return _Present.histories


def history_of(trial: str) -> list[dict[str, Any]]:
    """Reports of a trial of this process's search."""
    return [] if _Present.histories is None else _Present.histories.of(trial)


class HistoryKeeper(Callback):  # type: ignore[misc]  # Ray has no types
    """Enters what results bring, before anybody else hears of them."""

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Enter it."""
        if _Present.histories is not None:
            _Present.histories.add(trial.trial_id, result)
