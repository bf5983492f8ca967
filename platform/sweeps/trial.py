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
from edgegen.platform.sweeps.training import ALSO, EPISODES, OBJECTIVE, SeedsTraining, newest_checkpoint

SWEEP_FILE = "sweep.json"
"""In the sweep's folder: what the sweep is."""


class SweepTrial(Trainable):  # type: ignore[misc]  # Ray has no types
    """One trial of a sweep.

    Its config holds ``folder``, where the sweep is described; ``stage``, the name of Tune's experiment; and
    ``settings``, the values of the space.

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
        sweep = recalled(read_json(folder / SWEEP_FILE))
        self.training = SeedsTraining(sweep, sweep.spec.seeds, [(0, dict(config["settings"]))])
        self._own_folder = folder / config["stage"] / self.trial_id
        self._told = 0

    def step(self) -> dict[str, Any]:
        """Train to the next report and validate."""
        training = self.training
        if not training.history and (found := newest_checkpoint(self._own_folder)) is not None:
            self._load(found)  # written, but the driver was killed before it heard of it
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

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the training."""
        self.training.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Continue from a checkpoint, this trial's own or, in population-based training, another's."""
        self._load(Path(str(checkpoint)))

    def _load(self, checkpoint: Path) -> None:
        self.training.load(checkpoint)
        self._told = 0  # the driver may not have heard of all that led there
