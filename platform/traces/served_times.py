# SPDX-License-Identifier: Apache-2.0
"""Times of work on the edges of a service, fitted to what it recorded.

A request takes pictures times (fixed + steps times a step), over the speed of its edge: as in the fleet world. What
that leaves over becomes the world's noise, by quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from edgegen.envs.core.records import LATE, SERVED
from edgegen.envs.fleet.traces import Floats, Ints
from edgegen.platform.traces.fitting import QUANTILES, mix

if TYPE_CHECKING:
    import pyarrow

FEW_VALUES, FEW_ROWS = 20, 20
"""A column with more values than this is described by its quantiles, and a spread is measured from so many rows on."""
LEAST_SPREAD = 0.01
"""Below this spread of a factor there is no noise to speak of."""
ROUNDS = 20


@dataclass(frozen=True)
class Served:
    """The requests of a recording that got their pictures; N of them, E edges, M models.

    Attributes:
        edge: Number of the edge of each ``[N]``.
        model: Number of its model.
        pictures: Its pictures.
        steps: Steps that were made.
        queue_s: Time that it waited on the edge.
        load_s: Time that it waited for its model.
        load_source: Where that was.
        generation_s: Time of generation.
        total_s: From arrival to the answer.
    """

    edge: Ints
    model: Ints
    pictures: Floats
    steps: Floats
    queue_s: Floats
    load_s: Floats
    load_source: NDArray[np.character[Any]]
    generation_s: Floats
    total_s: Floats

    @classmethod
    def of(cls, records: pyarrow.Table, edges: Sequence[str], models: Sequence[str]) -> Served:
        """The rows with pictures, from edges and models that are named."""
        table = records.to_pandas()
        there = table["outcome"].isin([SERVED, LATE]) & table["edge"].isin(edges) & table["model"].isin(models)
        table = table[there]

        def numbers(name: str) -> Floats:
            return np.asarray(table[name], dtype=np.float64)

        return cls(
            edge=np.array([edges.index(name) for name in table["edge"]], dtype=np.int64),
            model=np.array([models.index(name) for name in table["model"]], dtype=np.int64),
            pictures=numbers("pictures"),
            steps=numbers("steps_done"),
            queue_s=numbers("queue_s"),
            load_s=numbers("load_s"),
            load_source=np.asarray(table["load_source"], dtype=np.str_),
            generation_s=numbers("generation_s"),
            total_s=numbers("total_s"),
        )

    @property
    def rest_s(self) -> Floats:
        """What was neither waiting on the edge, nor a load, nor generation ``[N]``, s."""
        return np.maximum(self.total_s - self.queue_s - self.load_s - self.generation_s, 0.0)


@dataclass(frozen=True)
class Times:
    """Times of work, fitted.

    Attributes:
        speed: Speeds of the edges ``[E]``.
        fixed_s: Time of a picture beside its steps at speed 1 ``[M]``, s.
        step_s: Time of a step at speed 1 ``[M]``, s.
        factor: Speed of an edge with a model over that ``[E, M]``.
        residual: Time that each request took over what is expected ``[N]``.
    """

    speed: Floats
    fixed_s: Floats
    step_s: Floats
    factor: Floats
    residual: Floats


def fit_times(served: Served, speed: Floats, fixed_s: Floats, step_s: Floats) -> Times:
    """Fit times of work to what was served, beginning with what is known.

    Speeds and times are fitted in turns, to the least squares of relative errors. An edge or a model of which nothing
    was served keeps what is known, and so does the ratio of a model's two times where all asked for the same steps. The
    sum of the speeds stays.

    Args:
        served: The requests.
        speed: Speeds of the edges, as far as known ``[E]``.
        fixed_s: Time of a picture beside its steps, as far as known ``[M]``, s.
        step_s: Time of a step ``[M]``, s.
    """
    speed, fixed_s, step_s, whole = speed.copy(), fixed_s.copy(), step_s.copy(), speed.sum()
    took_s = np.maximum(served.generation_s, 1e-9)
    per_picture = served.pictures / took_s
    for _ in range(ROUNDS):
        for model in np.unique(served.model):
            some = served.model == model
            parts = np.stack([per_picture[some], per_picture[some] * served.steps[some]], 1)
            parts /= speed[served.edge[some], None]
            known = np.array([fixed_s[model], step_s[model]])
            if len(np.unique(served.steps[some])) > 1:
                known = nnls(parts, np.ones(len(parts)))[0]
                known[1] = max(known[1], 1e-9)
            else:
                known /= np.median(parts @ known)
            fixed_s[model], step_s[model] = known
        work = served.pictures * (fixed_s[served.model] + served.steps * step_s[served.model])
        for edge in np.unique(served.edge):
            speed[edge] = np.median((work / took_s)[served.edge == edge])
        scale = whole / speed.sum()
        speed, fixed_s, step_s = speed * scale, fixed_s * scale, step_s * scale
    work = served.pictures * (fixed_s[served.model] + served.steps * step_s[served.model])
    residual = took_s * speed[served.edge] / work
    factor = np.ones((len(speed), len(step_s)))
    for edge in range(len(speed)):
        for model in range(len(step_s)):
            some = (served.edge == edge) & (served.model == model)
            if some.sum() >= FEW_ROWS:
                factor[edge, model] = 1 / np.median(residual[some])
    return Times(speed, fixed_s, step_s, factor, residual * factor[served.edge, served.model])


def amount(values: Floats) -> dict[str, Any]:
    """A quantity as it was recorded, as a field of a scenario: its values and how often each, or its quantiles."""
    different = len(np.unique(values))
    if different == 1:
        return {"low": float(values[0]), "high": float(values[0])}
    return mix(values) if different <= FEW_VALUES else _quantiles(values)


def noise(residual: Floats) -> dict[str, Any] | None:
    """Factors on a time, as a field of a scenario; None where there are few, or they hardly differ."""
    few = len(residual) < FEW_ROWS or residual.std() < LEAST_SPREAD
    return None if few else _quantiles(np.maximum(residual, 1e-6))


def _quantiles(values: Floats) -> dict[str, Any]:
    """Twenty values that stand for all, with the same mean."""
    points = np.quantile(values, (np.arange(QUANTILES) + 0.5) / QUANTILES)
    own = [short(value) for value in points * values.mean() / points.mean()]
    return {"low": own[0], "high": own[-1], "shape": {"kind": "empirical", "points": own}}


def short(value: float | np.floating[Any]) -> float:
    """A number as it is written into a file."""
    return float(f"{float(value):.6g}")
