# SPDX-License-Identifier: Apache-2.0
"""How a sweep stands, for whoever looks from another terminal: a file that its driver appends to, and its table."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from edgegen.envs.core.errors import InputError
from edgegen.platform.engine.doing import read_json
from edgegen.platform.live_table import duration
from edgegen.platform.records.presence import DRIVER, HEARTBEAT, is_stale, signs
from edgegen.platform.sweeps.checked import CheckedSweep, recalled
from edgegen.platform.sweeps.progress import SweepProgress
from edgegen.platform.sweeps.relay import TrialView

STATUS_FILE = "status.jsonl"
"""In the sweep's folder: a line for every change of a trial, and one for every driver."""
SWEEP_FILE, REPORT = "sweep.json", Path("report") / "report.md"
TITLES = {"search": "search", "final": "final training"}


class StatusLog:
    """A watcher that writes down how trials stand, a short line per change.

    Args:
        folder: Folder of the sweep.
        stage: ``search`` or ``final``.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        self._file = folder / STATUS_FILE
        self._append([{"stage": stage, **signs()}])

    def watch(self, trials: Sequence[TrialView], changed: Sequence[TrialView]) -> None:
        """Write down what changed."""
        self._append(
            [
                {
                    "trial": trial.number,
                    "status": trial.status,
                    "episodes": trial.episodes,
                    "objective": trial.objective,
                    "also": trial.also,
                    "values": trial.values,
                    "at": int(time.time()),
                }
                for trial in changed
            ]
        )

    def _append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))


class SweepStatus(SweepProgress):
    """The table of a sweep that another process, or none any more, works on.

    Args:
        folder: Folder of the sweep.
        console: Where to.

    Raises:
        InputError: If there is no sweep in it, or what its driver wrote is damaged.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        super().__init__(_sweep_in(folder), console, "", 0)
        self._read = 0
        self._rows: dict[int, TrialView] = {}
        self._driver: dict[str, str] = {}
        self.update()

    @property
    def over(self) -> bool:
        """Whether nothing more will come: the report is written, or nobody is at work."""
        return (self.folder / REPORT).is_file() or self._abandoned

    @property
    def _abandoned(self) -> bool:
        return not self._driver or is_stale(self._driver, time.time())

    def update(self) -> None:
        """Read what is new.

        Raises:
            InputError: If it is damaged.
        """
        try:
            with (self.folder / STATUS_FILE).open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        try:
            for line in whole.splitlines():
                self._enter(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"'{self.folder / STATUS_FILE}' is damaged; remove it, and what happens from then on is shown."
            ) from None
        self._trials = [self._rows[number] for number in sorted(self._rows)]

    def _enter(self, entry: dict[str, Any]) -> None:
        if "stage" in entry:  # another stage, or another driver of the same one
            title = f"{self.sweep.spec.name}: {TITLES[entry['stage']]}"
            if title != self.title:
                self._rows.clear()
            self.title = title
            self.total = self.sweep.spec.budget.trials if entry["stage"] == "search" else 0
            self._driver = {name: entry[name] for name in (DRIVER, HEARTBEAT)}
            return
        self._driver[HEARTBEAT] = str(entry["at"])
        number, values = entry["trial"], entry["values"]
        last = {"episodes": entry["episodes"], "objective": entry["objective"], "also": entry.get("also", {})}
        history = () if entry["objective"] is None else (last,)
        self._rows[number] = TrialView(
            str(number), number, entry["status"], {"settings": values}, history, ((0, values),), None
        )

    def headline(self) -> str:
        """How it stands, and how long ago something happened."""
        self.total = max(self.total, len(self._rows))
        parts = super().headline().split(", ")[:-2]  # without times: nobody here saw it begin
        if (self.folder / REPORT).is_file():
            parts.append(f"over; the report is {self.folder / REPORT}")
        elif self._abandoned:
            parts.append("nobody is at work on it; --resume continues")
        else:
            ago_s = max(0.0, time.time() - int(self._driver[HEARTBEAT]))
            parts.append(f"last change {duration(ago_s)} ago")
        return ", ".join(parts)

    def render(self) -> RenderableType:
        """The table as of now."""
        self.update()
        return super().render() if self._rows else Group(Text("No trial has begun yet."), Text(self.headline()))


def _sweep_in(folder: Path) -> CheckedSweep:
    try:
        return recalled(read_json(folder / SWEEP_FILE))
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"'{folder}' holds no sweep: {SWEEP_FILE} is missing or damaged.") from None
