# SPDX-License-Identifier: Apache-2.0
"""A trial of the search, as Ray Tune runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune import Trainable

from edgegen.platform.engine.doing import read_json
from edgegen.platform.process import prefer_one_thread, quiet_libraries
from edgegen.platform.sweeps.checked import recalled
from edgegen.platform.sweeps.history import FIRST, REPORTS
from edgegen.platform.sweeps.storage import ObjectStore, newest_stored
from edgegen.platform.sweeps.training import ALSO, EPISODES, OBJECTIVE, STATE_FILE, SeedsTraining, newest_checkpoint

SWEEP_FILE = "sweep.json"
"""In the sweep's folder: what the sweep is."""


class SweepTrial(Trainable):  # type: ignore[misc]  # Ray has no types
    """One trial of a sweep.

    Its config holds ``folder``, where the sweep is described; ``stage``, the name of Tune's experiment;
    ``settings``, the values of the space; and ``store``, the URI of the object store that has the description and the
    checkpoints, if there is one.

    A result holds ``objective`` and ``episodes`` of the last report, the reports that are new (see
    :mod:`edgegen.platform.sweeps.history`), and the ``schedule`` of the training.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Build the algorithms."""
        prefer_one_thread()
        quiet_libraries()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial; starting a process anew takes longer than many a report."""
        self.cleanup()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """Release what the training holds."""
        self.training.close()

    def _begin(self, config: Mapping[str, Any]) -> None:
        folder = Path(config["folder"])
        self._store = ObjectStore(config["store"]) if config.get("store") else None
        described = read_json(folder / SWEEP_FILE) if self._store is None else self._store.read_json(SWEEP_FILE)
        sweep = recalled(described)
        self.training = SeedsTraining(sweep, sweep.spec.seeds, [(0, dict(config["settings"]))])
        self._stage, self._own_folder = config["stage"], folder / config["stage"] / self.trial_id
        self._told = 0

    def step(self) -> dict[str, Any]:
        """Train to the next report and validate."""
        training = self.training
        if not training.history:
            self._go_on()
        report = training.report()
        first, self._told = self._told, len(training.history)
        return {
            OBJECTIVE: report[OBJECTIVE],
            EPISODES: report[EPISODES],
            **({ALSO: report[ALSO]} if ALSO in report else {}),
            FIRST: first,
            REPORTS: training.history[first:],
            "schedule": list(training.schedule),
            "done": training.over,
        }

    def _go_on(self) -> None:
        """Load what was written before the driver was killed, which so has not heard of it."""
        if self._store is None:
            if (found := newest_checkpoint(self._own_folder)) is not None:
                self._load(found)
        elif (stored := newest_stored(self._store, f"{self._stage}/{self.trial_id}", STATE_FILE)) is not None:
            with self._store.fetched(stored) as here:
                self._load(here)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the training."""
        self.training.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Continue from a checkpoint, this trial's own or, in population-based training, another's."""
        self._load(Path(str(checkpoint)))

    def _load(self, checkpoint: Path) -> None:
        self.training.load(checkpoint)
        self._told = 0  # the driver may not have heard of all that led there
