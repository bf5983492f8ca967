# SPDX-License-Identifier: Apache-2.0
"""How a quantity is distributed between two bounds, where that is not evenly: heavy tails, and what was measured.

Every shape lies between bounds that the quantity has anyhow, so whatever is derived from the largest value of a
quantity holds for all of them. A shape maps uniform random numbers to values (its quantile function): one number for
each value, whatever the shape.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, Field, model_validator
from scipy.special import ndtr, ndtri

from edgegen.envs.core.fields import Frozen, NonNegative, Ordered, Positive

Floats = NDArray[np.float64]

MOST_VALUES = 100_000
"""Most values of an empirical distribution."""


class Shape(Frozen):
    """A distribution between two bounds."""

    kind: str

    def problem(self, low: float, high: float) -> str:
        """What is wrong with the shape between these bounds, as part of a sentence; empty if nothing is."""
        del low, high
        return ""

    def check(self, low: float, high: float) -> None:
        """Refuse bounds between which there is no such shape.

        Raises:
            ValueError: If there is none.
        """
        if problem := self.problem(low, high):
            raise ValueError(f"shape {self.kind} {problem}")

    @abstractmethod
    def values(self, uniform: Floats, low: float, high: float) -> Floats:
        """Values, float64, of uniform random numbers in [0, 1), between the bounds."""

    @abstractmethod
    def mean(self, low: float, high: float) -> float:
        """Expected value."""


class LogNormal(Shape):
    """Log-normal, cut off at the bounds.

    Attributes:
        median: Median without the cut.
        sigma: Standard deviation of the logarithm.
    """

    kind: Literal["lognormal"] = "lognormal"
    median: Positive
    sigma: Annotated[Positive, Field(ge=0.01, le=10)]

    def problem(self, low: float, high: float) -> str:
        """See :meth:`Shape.problem`."""
        first, last = self._ends(low, high)
        return "" if last - first > 1e-6 else f"has next to nothing of its mass between low {low:g} and high {high:g}"

    def values(self, uniform: Floats, low: float, high: float) -> Floats:
        """See :meth:`Shape.values`."""
        first, last = self._ends(low, high)
        found: Floats = self.median * np.exp(self.sigma * ndtri(first + uniform * (last - first)))
        return found.clip(low, high)

    def mean(self, low: float, high: float) -> float:
        """See :meth:`Shape.mean`: with both bounds moved by σ, as for every partial moment of a log-normal."""
        first, last = self._ends(low, high)
        moved = [float(ndtr(z - self.sigma)) for z in self._standardised(low, high)]
        return float(self.median * math.exp(self.sigma**2 / 2) * (moved[1] - moved[0]) / (last - first))

    def _standardised(self, low: float, high: float) -> tuple[float, float]:
        start = -math.inf if low == 0 else math.log(low / self.median) / self.sigma
        return start, math.log(high / self.median) / self.sigma

    def _ends(self, low: float, high: float) -> tuple[float, float]:
        first, last = (float(ndtr(z)) for z in self._standardised(low, high))
        return first, last


class Pareto(Shape):
    """Bounded Pareto: a power law from ``low`` to ``high``.

    Attributes:
        alpha: Exponent of the tail, P(X > x) ~ x^−α; the smaller, the heavier.
    """

    kind: Literal["pareto"] = "pareto"
    alpha: Annotated[Positive, Field(ge=0.05, le=20)]

    def problem(self, low: float, high: float) -> str:
        """See :meth:`Shape.problem`."""
        del high
        return "" if low > 0 else "needs a low above 0"

    def values(self, uniform: Floats, low: float, high: float) -> Floats:
        """See :meth:`Shape.values`."""
        left = (low / high) ** self.alpha  # of the tail beyond high
        found: Floats = low * (1 - uniform * (1 - left)) ** (-1 / self.alpha)
        return found.clip(low, high)

    def mean(self, low: float, high: float) -> float:
        """See :meth:`Shape.mean`."""
        if high - low <= 1e-6 * high:
            return (low + high) / 2
        left = float((low / high) ** self.alpha)
        if abs(self.alpha - 1) < 1e-9:
            return float(low * math.log(high / low) / (1 - left))
        return float(self.alpha / (self.alpha - 1) * (low - high * left) / (1 - left))


class Empirical(Shape):
    """Values as they were measured.

    Attributes:
        points: Values that occur.
        weights: How often each does, relative to the others; all alike if not given.
    """

    kind: Literal["empirical"] = "empirical"
    points: Annotated[tuple[NonNegative, ...], Field(min_length=1, max_length=MOST_VALUES)]
    weights: Annotated[tuple[NonNegative, ...], Field(max_length=MOST_VALUES)] = ()

    @model_validator(mode="after")
    def _one_weight_each(self) -> Self:
        if self.weights and len(self.weights) != len(self.points):
            raise ValueError(f"weights has {len(self.weights)} entries and points has {len(self.points)}")
        if self.weights and sum(self.weights) <= 0:
            raise ValueError("weights must not all be 0")
        return self

    def problem(self, low: float, high: float) -> str:
        """See :meth:`Shape.problem`."""
        outside = next((value for value in self.points if not low <= value <= high), None)
        return (
            "" if outside is None else f"has the value {outside:g}, which is not between low {low:g} and high {high:g}"
        )

    def values(self, uniform: Floats, low: float, high: float) -> Floats:
        """See :meth:`Shape.values`."""
        del low, high
        edges = self._shares().cumsum()
        found: Floats = np.asarray(self.points)[np.searchsorted(edges[:-1], uniform, side="right")]
        return found

    def mean(self, low: float, high: float) -> float:
        """See :meth:`Shape.mean`."""
        del low, high
        return float(self._shares() @ np.asarray(self.points))

    def _shares(self) -> Floats:
        weights = np.asarray(self.weights or (1.0,) * len(self.points), dtype=np.float64)
        shares: Floats = weights / weights.sum()
        return shares


class LogUniform(Shape):
    """Evenly on a logarithmic scale."""

    kind: Literal["loguniform"] = "loguniform"

    def problem(self, low: float, high: float) -> str:
        """See :meth:`Shape.problem`."""
        del high
        return "" if low > 0 else "needs a low above 0"

    def values(self, uniform: Floats, low: float, high: float) -> Floats:
        """See :meth:`Shape.values`."""
        found: Floats = low * (high / low) ** uniform
        return found.clip(low, high)

    def mean(self, low: float, high: float) -> float:
        """See :meth:`Shape.mean`."""
        return (low + high) / 2 if high - low <= 1e-6 * high else (high - low) / math.log(high / low)


AnyShape = Annotated[LogNormal | LogUniform | Pareto | Empirical, Discriminator("kind")]
"""A shape as a file gives it, by ``kind``; a quantity without any is distributed evenly."""


class Span(Ordered):
    """A uniform distribution on ``[low, high)``; a constant if both are equal."""

    low: NonNegative
    high: NonNegative


class Amount(Span):
    """A distribution between ``low`` and ``high``: uniform, or of another ``shape``."""

    shape: AnyShape | None = None

    @model_validator(mode="after")
    def _of_a_possible_shape(self) -> Self:
        if self.shape is not None:
            self.shape.check(self.low, self.high)
        return self

    @property
    def mean(self) -> float:
        """Expected value."""
        return (self.low + self.high) / 2 if self.shape is None else self.shape.mean(self.low, self.high)

    def values(self, uniform: np.ndarray) -> np.ndarray:
        """Values of uniform random numbers in [0, 1), in their precision."""
        if self.shape is None:
            return uniform * (self.high - self.low) + self.low
        return self.shape.values(uniform.astype(np.float64), self.low, self.high).astype(uniform.dtype)
