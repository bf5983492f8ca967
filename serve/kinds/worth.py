# SPDX-License-Identifier: Apache-2.0
"""What requests are worth to a service: as in the fleet world, the quality in time less what the delay costs."""

from __future__ import annotations

from typing import Literal

from edgegen.serve.config import ServiceConfig
from edgegen.serve.control.ledger import Ledger
from edgegen.serve.control.live_world import Task
from edgegen.serve.kinds.facts import facts_of


class Worth:
    """Judges requests.

    Args:
        config: The service, with what is worth how much.
        ledger: What is known of the edges, to expect delays.
        of: Utility, or minus the delay alone, s.
    """

    def __init__(self, config: ServiceConfig, ledger: Ledger, of: Literal["utility", "delay"] = "utility") -> None:
        self._utility, self._ledger, self._of = config.utility, ledger, of
        self._facts, self._cards = facts_of(config), config.cards()
        self._cloud = {edge.name: edge.cloud for edge in config.edges if edge.cloud is not None}

    def made(self, task: Task, server: str, steps: int, delay_s: float) -> float:
        """What a request is worth that was answered.

        Args:
            task: The request.
            server: Who made it.
            steps: Denoising steps that it got.
            delay_s: Time from its arrival to its answer, s.
        """
        if self._of == "delay":
            return -delay_s
        own, cloud = self._utility, self._cloud.get(server)
        quality = self._facts[task.model].quality(steps / task.steps)
        worth = quality if delay_s <= task.deadline_s else -own.late_penalty
        price = own.hop_price if server != task.home else 0.0
        if cloud is not None:
            card = self._cards[task.model]
            work_s = task.pictures * (card.fixed_gcycles + steps * card.cycles_per_step_gcycles)
            price = cloud.price + cloud.price_per_work_s * work_s
        return task.weight * worth - own.delay_price * delay_s - price

    def lost(self, task: Task) -> float:
        """What a request is worth that was accepted and not answered: late, and as long under way as was promised."""
        if self._of == "delay":
            return -task.deadline_s
        return -self._utility.late_penalty * task.weight - self._utility.delay_price * task.deadline_s

    def expect(self, task: Task, server: str, now: float) -> float:
        """What a request is expected to be worth on a server that begins it after all others, with all its steps."""
        ledger, row, column = self._ledger, self._ledger.rows[server], self._ledger.columns[task.model]
        load_s = 0.0 if ledger.resident[row, column] else ledger.load_s[row, column]
        delay_s = ledger.backlog_s(now)[row] + load_s + task.workload_gcycles / ledger.capacity_gcycles_s[row]
        if (cloud := self._cloud.get(server)) is not None:
            delay_s = cloud.distance_s + task.workload_gcycles / ledger.capacity_gcycles_s[row]
        return self.made(task, server, task.steps, float(delay_s))
