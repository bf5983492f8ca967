# SPDX-License-Identifier: Apache-2.0
"""What users ask for: how many tasks come, what a task is like, and that episodes may differ in it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from edgegen.envs.core.distributions import AnyShape
from edgegen.envs.core.fields import Count, Flag, Frozen, NonNegative, Positive, Seed, Whole
from edgegen.envs.offloading.traffic import Traffic

MOST_TASKS = 100_000
"""Most tasks that a server can receive in a slot."""


class IntegerRange(Frozen):
    """A discrete uniform distribution on ``{low, ..., high}``, both ends included."""

    low: Whole
    high: Annotated[Count, Field(le=MOST_TASKS)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) must not exceed high ({self.high})")
        return self

    @property
    def mean(self) -> float:
        """Expected value."""
        return (self.low + self.high) / 2


class Quantity(Frozen):
    """A task property, uniform on ``[low, high)``, or on ``{low, ..., high}`` if ``integer``.

    ``drawn: per_task`` draws it afresh for every task. ``drawn: per_index`` draws it once per task index n from
    numpy's legacy generator with ``seed``, the same for every server, slot and episode: the authors' code does this.
    A ``shape`` distributes it otherwise between the two bounds; ``integer`` then rounds.
    """

    low: NonNegative
    high: Positive
    integer: Flag = False
    drawn: Literal["per_task", "per_index"] = "per_task"
    seed: Seed | None = None
    shape: AnyShape | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low:g}) must not exceed high ({self.high:g})")
        if self.integer and (self.low % 1 or self.high % 1):
            raise ValueError("low and high must be whole numbers when integer is true")
        if self.drawn == "per_index" and self.seed is None:
            raise ValueError("drawn: per_index needs a seed")
        if self.shape is not None:
            self.shape.check(self.low, self.high)
        return self

    @property
    def mean(self) -> float:
        """Expected value of a per-task draw; of integers with a shape, before they are rounded."""
        return (self.low + self.high) / 2 if self.shape is None else self.shape.mean(self.low, self.high)

    def by_index(self, tasks: int) -> np.ndarray:
        """Return the ``tasks`` values of a ``per_index`` quantity, float64 ``[tasks]``; a prefix-stable sequence."""
        legacy = np.random.RandomState(self.seed)
        if self.shape is not None:
            return self._shaped(legacy.random_sample(tasks))
        if self.integer:
            return legacy.randint(int(self.low), int(self.high) + 1, tasks).astype(np.float64)
        return legacy.uniform(self.low, self.high, tasks)

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw per-task values, float32 of the given shape."""
        if self.shape is not None:
            return self._shaped(rng.random(shape)).astype(np.float32)
        if self.integer:
            return rng.integers(int(self.low), int(self.high), shape, endpoint=True).astype(np.float32)
        return rng.random(shape, dtype=np.float32) * np.float32(self.high - self.low) + np.float32(self.low)

    def _shaped(self, uniform: np.ndarray) -> np.ndarray:
        assert self.shape is not None
        values = self.shape.values(uniform, self.low, self.high)
        return np.rint(values) if self.integer else values


class Demand(Frozen):
    """What users ask for in some of the episodes; what is left out is what the scenario says.

    Attributes:
        tasks_per_slot: Tasks per server and slot.
        steps: Denoising steps that a request asks for.
        traffic: Factors on the number of tasks.
    """

    tasks_per_slot: IntegerRange | None = None
    steps: Quantity | None = None
    traffic: Traffic | None = None

    @model_validator(mode="after")
    def _can_differ(self) -> Self:
        if not self.given:
            raise ValueError("a demand needs tasks_per_slot, steps or traffic")
        if self.steps is not None and self.steps.drawn != "per_task":
            raise ValueError("steps of a demand must be drawn per_task")
        if self.traffic is not None and self.traffic.recorded is not None:
            raise ValueError("traffic of a demand can not be recorded")
        return self

    @property
    def given(self) -> dict[str, Any]:
        """What is not left out, by field."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
