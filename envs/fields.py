"""What the fields of scenarios are made of: frozen models and checked numbers."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_SEED = 2**32 - 1
"""The largest that every generator of random numbers takes."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Duration = Annotated[float, Field(ge=1, allow_inf_nan=False)]
"""A mean number of slots; a state that is entered lasts for one slot at least."""


class Frozen(BaseModel):
    """A model that can not be changed and refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(Frozen):
    """A continuous distribution on ``[low, high)``: uniform, or uniform in the logarithm if ``log``."""

    low: Positive
    high: Positive
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low:g}) must not exceed high ({self.high:g})")
        return self
