# SPDX-License-Identifier: Apache-2.0
"""What the fields of every file are made of: frozen models, switches, and numbers with the bounds of the machine.

Simulators compute in single precision and count in 64 bits. Bounds are narrower than both, so that products and ratios
of a few values fit too. What only together grows too large is the business of the model that holds them.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.seeds import MAX_SEED

MOST, LEAST = 1e12, 1e-12
"""Largest and smallest positive quantity; the product of three still fits single precision, which ends at 3.4e38."""
MOST_COUNTED = 10**9
"""Largest whole number: two of them can be multiplied in 64 bits."""
MOST_CELLS = 200_000_000
"""Most numbers in an array of one episode; there are several such arrays, with 1 to 8 bytes each."""
MOST_AT_ONCE = 10 * MOST_CELLS
"""Most numbers in an array of all copies that are played side by side."""
SINGLE_MAX = 1e38
"""What no result of a simulator may exceed, so that it fits single precision."""


def _number(value: Any) -> Any:
    # pydantic alone would count true as 1 and read texts.
    if isinstance(value, bool | str | bytes) or (isinstance(value, float) and math.isnan(value)):
        raise ValueError("must be a number")
    if isinstance(value, int | float) and abs(value) > MOST:
        raise ValueError(f"must be finite, and between {-MOST:g} and {MOST:g}")
    return value


def _large_enough(value: float) -> float:
    if value < LEAST:
        raise ValueError(f"must be at least {LEAST:g}")
    return value


def _truth(value: Any) -> Any:
    # pydantic alone would read 1 and texts such as yes.
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


Real = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[float, BeforeValidator(_number), Field(gt=0), AfterValidator(_large_enough)]
NonNegative = Annotated[float, BeforeValidator(_number), Field(ge=0)]
Probability = Annotated[float, BeforeValidator(_number), Field(ge=0, lt=1)]
Share = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1)]
Duration = Annotated[float, BeforeValidator(_number), Field(ge=1)]
"""A mean number of slots; a state that is entered lasts for one slot at least."""
Whole = Annotated[int, BeforeValidator(_number), Field(ge=0, le=MOST_COUNTED)]
Count = Annotated[int, BeforeValidator(_number), Field(ge=1, le=MOST_COUNTED)]
Seed = Annotated[int, BeforeValidator(_number), Field(ge=0, le=MAX_SEED)]
StepSize = Annotated[Positive, Field(le=10)]
"""A step size of Adam; with more, weights leave single precision within a few steps."""
Width = Annotated[Count, Field(le=8192)]
"""Width of a layer."""
Copies = Annotated[Count, Field(le=100_000)]
"""Copies of a scenario that are played side by side."""
Batch = Annotated[Count, Field(le=1_000_000)]
"""Rows of an update."""
Updates = Annotated[Positive, Field(le=1000)]
"""Updates per step of a copy; fractions add up."""
Flag = Annotated[bool, BeforeValidator(_truth)]
"""``true`` or ``false``, and neither 1 nor the word yes."""


class Frozen(BaseModel):
    """A model that can not be changed and refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Ordered(Frozen):
    """Two bounds, the lower one first; who extends it says which numbers they may be."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low:g}) must not exceed high ({self.high:g})")
        return self


class Range(Ordered):
    """A continuous distribution on ``[low, high)``: uniform, or uniform in the logarithm if ``log``."""

    low: Positive
    high: Positive
    log: Flag = False


def check_copies(copies: int, cells: int, scenario: str) -> None:
    """Refuse more copies than any memory holds.

    Args:
        copies: Copies that are played side by side.
        cells: Entries of the largest array of one of them.
        scenario: Name of what is played.

    Raises:
        InputError: If they are too many.
    """
    if copies * cells > MOST_AT_ONCE:
        raise InputError(
            f"The number of copies is {copies}, but of scenario '{scenario}' at most {MOST_AT_ONCE // cells} can be "
            f"played side by side: an episode of each takes arrays with {cells} entries."
        )
