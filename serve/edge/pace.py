# SPDX-License-Identifier: Apache-2.0
"""How fast an edge works and loads, as running means of what it has measured."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from edgegen.serve.model_config import ModelCard

MEMORY = 0.7
"""Weight of the past in a running mean: about the last three pictures count."""


def mixed(before: float | None, now: float) -> float:
    """Return the running mean with one more value; the first one is the mean."""
    return now if before is None else MEMORY * before + (1 - MEMORY) * now


class Pace:
    """Times of work and of loads on one edge.

    Times of steps and of work are kept over all models, as the edge reports them, and of work for each model, too,
    because what a config says of two models may not fit this device equally well.

    Args:
        cards: The models that the edge may hold.
        work_s: Time of 1 Gcycle that is taken for true until something has been measured, s.
        host_load_s: Time of a load from the memory of the host until one has been measured, by model, s.
    """

    def __init__(
        self, cards: Mapping[str, ModelCard], work_s: float = 1.0, host_load_s: Mapping[str, float] | None = None
    ) -> None:
        self._cards = cards
        self._first_work_s = work_s
        self._first_host_s = dict(host_load_s or {})
        self._warmed: dict[str, tuple[float, float]] = {}  # what only pictures say for which nobody asked
        self._asked = False
        self._work_s: float | None = None
        self._work_of_s: dict[str, float] = {}
        self._step_s: float | None = None
        self._load_s: dict[tuple[str, bool], float] = {}
        self._start_load_s: dict[str, float] = {}

    @property
    def capacity_gcycles_s(self) -> float:
        """Work per second over all models, Gcycle/s."""
        return 1 / (self._work_s or self._first_work_s)

    @property
    def step_s(self) -> float:
        """Time of a denoising step of one picture of the first size, over all models, s."""
        if self._step_s is not None:
            return self._step_s
        return next(iter(self._cards.values())).cycles_per_step_gcycles * self._first_work_s

    def work_s(self, model: str, work_gcycles: float) -> float:
        """Expected time of work with a model, s."""
        return work_gcycles * self._work_of_s.get(model, self._work_s or self._first_work_s)

    def load_s(self, model: str, from_host: bool = False) -> float:
        """Expected time to load a model from the memory of the host, or from wherever it is, s."""
        if (model, from_host) in self._load_s:
            return self._load_s[model, from_host]
        if from_host:
            return self._first_host_s.get(model, self.load_s(model))
        return self._start_load_s.get(model, self._cards[model].load_s)

    def start(self, times: Mapping[str, tuple[float, float]]) -> None:
        """Take the pace of a warm-up: the time of 1 Gcycle and of a step by model, s."""
        self._warmed = dict(times)
        self._take_warmed()

    def timed(self, model: str, work_gcycles: float, steps: float, time_s: float) -> None:
        """Note the time of a picture that nobody asked for; it replaces what only the warm-up has said so far."""
        if model not in self._warmed:
            self.worked(model, work_gcycles, steps, time_s)
            return
        self._warmed[model] = (time_s / work_gcycles, time_s / steps)
        self._take_warmed()

    def worked(self, model: str, work_gcycles: float, steps: float, time_s: float) -> None:
        """Note the time of work.

        Args:
            model: Which model did it.
            work_gcycles: How much it was, Gcycle.
            steps: Steps of all pictures together, in steps of the first size.
            time_s: How long it took, s.
        """
        work_s = max(time_s, 1e-9) / work_gcycles
        self._warmed.pop(model, None)
        self._asked = True
        self._work_s = mixed(self._work_s, work_s)
        self._work_of_s[model] = mixed(self._work_of_s.get(model), work_s)
        self._step_s = mixed(self._step_s, time_s / steps)

    def _take_warmed(self) -> None:
        self._work_of_s |= {model: work_s for model, (work_s, _) in self._warmed.items()}
        if self._warmed and not self._asked:
            self._work_s = fmean(work_s for work_s, _ in self._warmed.values())
            self._step_s = fmean(step_s for _, step_s in self._warmed.values())

    def loaded_at_start(self, model: str, time_s: float) -> None:
        """Note the time of a load at the start, s: it stands until another one, for libraries were loaded beside it."""
        self._start_load_s[model] = time_s

    def loaded(self, model: str, from_host: bool, time_s: float) -> None:
        """Note the time of a load, s."""
        self._load_s[model, from_host] = mixed(self._load_s.get((model, from_host)), time_s)
