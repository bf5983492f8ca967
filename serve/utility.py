# SPDX-License-Identifier: Apache-2.0
"""What requests are worth to a service and what their delays cost: how policies of fleets weigh their choices."""

from __future__ import annotations

from edgegen.envs.core.fields import Frozen, NonNegative


class Utility(Frozen):
    """Worth and costs of requests, in utility: a picture in time is worth its quality, times the request's weight.

    Attributes:
        late_penalty: What a late request costs, times its weight.
        delay_price: Cost of a second of delay.
        hop_price: Cost of a request that runs away from home.
        hop_s: Time from one edge to another, s.
    """

    late_penalty: NonNegative = 0.2
    delay_price: NonNegative = 0.005
    hop_price: NonNegative = 0.01
    hop_s: NonNegative = 0.0
