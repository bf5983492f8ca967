# SPDX-License-Identifier: Apache-2.0
"""Objectives of a sweep: the metric that decides, and those that are searched beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.kinds import Kind
from edgegen.platform.sweeps.spec import SweepSpec

TRAINING_CPU = "training_cpu_s"
"""Processor time that the training took in its own process, s: the one objective that is no metric of a world."""

Mode = Literal["min", "max"]


@dataclass(frozen=True)
class Objective:
    """One of the things that a sweep is after.

    Attributes:
        metric: Its name among the results of an evaluation, or :data:`TRAINING_CPU`.
        mode: ``min`` or ``max``.
    """

    metric: str
    mode: Mode

    def better(self, first: float, second: float) -> bool:
        """Whether the first value is better than the second."""
        return first < second if self.mode == "min" else first > second


def objectives_of(spec: SweepSpec, kind: Kind) -> tuple[Objective, ...]:
    """Return the objectives of a sweep; the first decides.

    Raises:
        InputError: If one is no metric of the kind of world, or its mode contradicts what the metric means.
    """
    if not spec.objectives:
        return (_objective("metric", spec.metric or kind.metric, None, kind, kind.metrics),)
    allowed = (*kind.metrics, TRAINING_CPU)
    return tuple(
        _objective(f"objectives.{n}.metric", one.metric, one.mode, kind, allowed if n else kind.metrics)
        for n, one in enumerate(spec.objectives)
    )


def _objective(where: str, metric: str, mode: Mode | None, kind: Kind, allowed: Sequence[str]) -> Objective:
    if metric not in allowed:
        first = ": the first objective decides what is registered" if metric == TRAINING_CPU else ""
        raise InputError(
            f"{where} is '{metric}', but must be one of {', '.join(allowed)}{first}.{did_you_mean(metric, allowed)}"
        )
    right: Mode = "max" if metric in kind.gains else "min"
    if mode not in (None, right):
        wanted = "more" if right == "max" else "less"
        raise InputError(
            f"{where.removesuffix('metric')}mode is '{mode}', but of {metric} {wanted} is better; write {right}, "
            "or leave it out."
        )
    return Objective(metric, right)


def pareto_front(objectives: Sequence[Objective], values: Sequence[Sequence[float]]) -> list[int]:
    """Return which of several results no other one beats: at least as good in all objectives and better in one.

    Args:
        objectives: The objectives.
        values: Results, each with a value for every objective.
    """
    signs = [1.0 if objective.mode == "min" else -1.0 for objective in objectives]
    costs = [[sign * value for sign, value in zip(signs, row, strict=True)] for row in values]
    return [n for n, cost in enumerate(costs) if not any(_dominates(other, cost) for other in costs)]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))
