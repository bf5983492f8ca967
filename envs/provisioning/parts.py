# SPDX-License-Identifier: Apache-2.0
"""The parts of a provisioning scenario: distributions, the skewness chain, drift, mobility, the form of allocations.

All rules are our choice unless marked otherwise; see :mod:`edgegen.envs.provisioning.scenario`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from edgegen.envs.core.distributions import Span
from edgegen.envs.core.fields import Frozen, NonNegative, Ordered, Positive, Seed, Share, Whole
from edgegen.envs.provisioning.curves import MOST_STEPS

Drawn = Literal["once", "per_seed", "per_episode"]

_TOLERANCE = 1e-6  # by which written probabilities may miss a sum of one


class DrawnSizes(Ordered):
    """Model sizes, uniform on ``[low, high)`` GB.

    ``drawn: once`` draws them from ``seed``: the scenario has the same models whoever plays it. ``per_seed`` draws
    them anew for every seed an episode stream is started with, ``per_episode`` for every episode.
    """

    low: Positive
    high: Positive
    drawn: Drawn = "once"
    seed: Seed = 0


class DrawnCurves(Frozen):
    """One curve per model, each constant uniform on its range; A1 and A3 are rounded to whole steps.

    Attributes are those of :class:`edgegen.envs.provisioning.curves.Curve`; ``drawn`` and ``seed`` as in
    :class:`DrawnSizes`.
    """

    a1_steps: Span
    a2_tv: Span
    a3_steps: Span
    a4_tv: Span
    b1_s_per_step: Span
    b2_s: Span
    drawn: Drawn = "once"
    seed: Seed = 0

    @model_validator(mode="after")
    def _falls_from_left_to_right(self) -> Self:
        for name, steps in (("a1_steps", self.a1_steps), ("a3_steps", self.a3_steps)):
            if steps.high > MOST_STEPS:
                raise ValueError(f"{name}.high ({steps.high:g}) must not exceed {MOST_STEPS}")
        if round(self.a3_steps.low) <= round(self.a1_steps.high):
            raise ValueError(
                f"a3_steps.low ({self.a3_steps.low:g}) must exceed a1_steps.high ({self.a1_steps.high:g}) by a step"
            )
        if self.a4_tv.high > self.a2_tv.low:
            raise ValueError(
                f"a4_tv.high ({self.a4_tv.high:g}) must not exceed a2_tv.low ({self.a2_tv.low:g}), "
                "because lower is better"
            )
        return self


class SkewnessChain(Frozen):
    """Zipf skewness as a finite Markov chain that moves once per frame, independently in every cell.

    Attributes:
        states: Skewness of each state.
        transition: Row i holds the probabilities of the next state after state i.
        initial: State an episode begins with: ``uniform``, ``stationary``, or one of the states.
    """

    states: Annotated[tuple[NonNegative, ...], Field(min_length=1)]
    transition: tuple[tuple[Share, ...], ...]
    initial: Literal["uniform", "stationary"] | NonNegative = "uniform"

    @model_validator(mode="after")
    def _stochastic(self) -> Self:
        count = len(self.states)
        if len(set(self.states)) != count:
            raise ValueError("states must differ from one another")
        if len(self.transition) != count or any(len(row) != count for row in self.transition):
            raise ValueError(f"transition must have {count} rows of {count} probabilities, one per state")
        for number, row in enumerate(self.transition):
            if abs(sum(row) - 1) > _TOLERANCE:
                raise ValueError(f"row {number} of transition sums to {sum(row):g}, but must sum to 1")
        if not isinstance(self.initial, str) and self.initial not in self.states:
            known = ", ".join(f"{state:g}" for state in self.states)
            raise ValueError(f"initial is {self.initial:g}, but must be uniform, stationary or one of {known}")
        return self

    def matrix(self) -> np.ndarray:
        """Return the transition matrix ``[J, J]``, float64, rows scaled to sum to one exactly."""
        matrix = np.array(self.transition, dtype=np.float64)
        return np.asarray(matrix / matrix.sum(1, keepdims=True))

    def stationary(self) -> np.ndarray:
        """Return the long-run share of each state ``[J]`` from a uniform beginning."""
        # Averaging with the identity keeps the stationary shares and removes periods; squaring gets there fast.
        lazy = (self.matrix() + np.eye(len(self.states))) / 2
        for _ in range(64):
            lazy = lazy @ lazy
            lazy /= lazy.sum(1, keepdims=True)
        return np.asarray(lazy.mean(0))

    def start(self) -> np.ndarray:
        """Return the probability of each state in the first frame ``[J]``."""
        if self.initial == "uniform":
            return np.full(len(self.states), 1 / len(self.states))
        if self.initial == "stationary":
            return self.stationary()
        return np.array([float(state == self.initial) for state in self.states])


class Drift(Frozen):
    """How the ranking of the models changes from frame to frame, independently in every cell.

    Attributes:
        start: ``ranked``: an episode begins with the models in the order of their numbers, most popular first;
            ``shuffled``: in any order.
        swaps_per_frame: Pairs of models that trade ranks between two frames.
        swap: ``adjacent``: neighbours in the ranking; ``any``: any two models.
    """

    start: Literal["ranked", "shuffled"] = "ranked"
    swaps_per_frame: Annotated[Whole, Field(le=10_000)] = 0
    swap: Literal["adjacent", "any"] = "adjacent"


class Mobility(Frozen):
    """Where users are. All begin uniformly in the square around their server.

    Attributes:
        kind: ``redraw``: anew in every slot; ``walk``: a normal step per slot, reflected at the borders; ``fixed``:
            where they were at the beginning of the episode.
        sigma_m: Standard deviation of a walk's step in each direction, m.
    """

    kind: Literal["redraw", "walk", "fixed"] = "redraw"
    sigma_m: Positive = 5.0


class AllocationRule(Frozen):
    """How an agent's raw action in [−1, 1] becomes shares of bandwidth and computing.

    Attributes:
        map: ``affine`` takes (a + 1)/2, as arXiv 2507.20524 does for powers; ``absolute`` the magnitude, as the public
            code of Q. Liu et al. (IEEE TVT 73(6), 2024) does.
        shares: ``normalise`` divides by the sum; ``scale`` does so only if the sum exceeds one, so that something can
            be left unused.
        bandwidth_lift: What a bandwidth entry of zero is lifted to before.
    """

    map: Literal["affine", "absolute"] = "affine"
    shares: Literal["normalise", "scale"] = "normalise"
    bandwidth_lift: Share = 1e-3
