# SPDX-License-Identifier: Apache-2.0
"""What all learners of cells have a setting for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgegen.envs.core.fields import Copies, Flag, Frozen, Positive, Probability


class CellSettings(Frozen):
    """Settings that the learners of a method share.

    Attributes:
        sharing: ``none``: one learner per cell. ``full``: one set of weights and replay for all cells.
        critic_loss: Of critic and cacher: ``squared``, or ``huber``: a share near zero makes a delay without bound, and
            a few such requests would outweigh all others.
        average_weights: The policy that training returns has the averages of the weights that the target networks
            hold, not the last ones.
        gamma: Discount per slot. Allocation changes nothing of the slots after, so 0 loses nothing.
        tau: Rate of the soft target updates.
        reward_scale: Factor on the reward. ``spread``: such that what random decisions make of the reward has a spread
            of one, measured in episodes that are never played; the cacher's reward is also centred.
        copies: Copies of the scenario an env runner plays side by side.
    """

    sharing: Literal["none", "full"] = "none"
    critic_loss: Literal["squared", "huber"] = "squared"
    average_weights: Flag = False
    gamma: Probability = 0.99
    tau: Annotated[Positive, Field(le=1)] = 0.005
    reward_scale: Positive | Literal["spread"] = 1.0
    copies: Copies = 1
