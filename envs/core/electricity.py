# SPDX-License-Identifier: Apache-2.0
"""Electricity: what sites draw while they work, and what that costs there at a time of day."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from edgegen.envs.core.fields import Frozen, NonNegative, Positive

MOST_PARTS = 1440
"""Most parts of a day with a price of their own: one a minute."""
KJ_PER_KWH = 3600.0


def _as_rows(value: Any) -> Any:
    """One number, or one row, for all sites as rows."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [[value]]
    plain = isinstance(value, list | tuple) and not any(isinstance(part, list | tuple) for part in value)
    return [value] if plain else value


Prices = Annotated[tuple[NonNegative, ...], Field(min_length=1, max_length=MOST_PARTS)]


class Electricity(Frozen):
    """What electricity costs by site and time of day.

    Attributes:
        price_per_kwh: Prices of equally long parts of a day, such as its 24 hours: a row for each site, or one for all;
            a number is one price for all sites at all times. Money per kWh, in whatever currency.
        day_s: Length of a day in the time of the world, s.
        begins_s: Time of day at which episodes begin, s.
    """

    price_per_kwh: Annotated[tuple[Prices, ...], BeforeValidator(_as_rows), Field(min_length=1)]
    day_s: Positive = 86_400.0
    begins_s: NonNegative = 0.0

    def check(self, sites: int, each: str) -> None:
        """Refuse prices that are not one row for all sites or one each, all of the same length.

        Raises:
            ValueError: If they are not.
        """
        rows = self.price_per_kwh
        if len(rows) not in (1, sites):
            raise ValueError(
                f"electricity.price_per_kwh has {len(rows)} rows for {sites} {each}s; give one for all or one each"
            )
        for number, row in enumerate(rows):
            if len(row) != len(rows[0]):
                raise ValueError(
                    f"electricity.price_per_kwh.{number} has {len(row)} prices and the first row {len(rows[0])}; all "
                    "rows are for the same parts of a day"
                )

    def prices_per_kj(self, sites: int) -> NDArray[np.float64]:
        """Prices by part of the day and site ``[H, sites]``, money per kJ."""
        rows = np.array(self.price_per_kwh) / KJ_PER_KWH
        return np.ascontiguousarray(np.broadcast_to(rows.T, (rows.shape[1], sites)))

    @property
    def part_s(self) -> float:
        """Length of a part of the day, s."""
        return self.day_s / len(self.price_per_kwh[0])

    def part_at(self, now_s: float) -> int:
        """Number of the part of the day at a time of the episode."""
        return int((now_s + self.begins_s) / self.part_s) % len(self.price_per_kwh[0])
