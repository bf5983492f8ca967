"""What requests are worth to a service and what their delays cost: how policies of fleets weigh their choices."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgegen.envs.core.fields import Frozen, NonNegative, Positive


class Utility(Frozen):
    """Worth and costs of requests, in utility: a picture in time is worth its quality, times the request's weight.

    Attributes:
        deadline_s: Promised delay where a request says nothing of it, s; ``request_timeout_s`` if left out.
        late_penalty: What a late request costs, times its weight.
        delay_price: Cost of a second of delay.
        hop_price: Cost of a request that runs away from home.
        hop_s: Time from one edge to another, s.
    """

    deadline_s: Annotated[Positive, Field(le=86_400)] | None = None
    late_penalty: NonNegative = 0.2
    delay_price: NonNegative = 0.005
    hop_price: NonNegative = 0.01
    hop_s: NonNegative = 0.0
