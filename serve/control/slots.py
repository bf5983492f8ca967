# SPDX-License-Identifier: Apache-2.0
"""The slots of a service's router: the policy in charge, a candidate that gets a share, and a shadow that gets nothing.

Policies change while requests go on: a new one is tried on the service as it is before it gets a slot, and the old one
stays if it fails. A candidate that falls behind the policy in charge loses its slot by itself, see
:mod:`edgegen.serve.control.guard`; a share of the requests, by their keys, is its canary. A policy that has taken
charge and then fails so often that it has to rest gives the charge back.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgegen.serve.control.books import Server
from edgegen.serve.control.guard import Guard
from edgegen.serve.control.live_world import Task
from edgegen.serve.control.seat import PolicyFailedError, Seat

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """A decision of a slot.

    Attributes:
        server: Name of the chosen server.
        policy: Who chose it.
        canary: Whether that is the candidate.
        shadow: Name of the server that the shadow chose; empty if there is none, or it could not decide.
    """

    server: str
    policy: str
    canary: bool
    shadow: str = ""


@dataclass
class Shadowed:
    """How a shadow does.

    Attributes:
        decisions: Requests that both it and the policy in charge decided.
        agreed: Those for which it chose the same server.
        gain: Sum of what its choices were expected to be worth more.
    """

    decisions: int = 0
    agreed: int = 0
    gain: float = 0.0


class Slots:
    """Lets the right policy decide about each request.

    Args:
        seat: The policy in charge.
        expect: What a request is expected to be worth on a server at a time; to compare a shadow.
        block_s: Length of the guard's blocks, s.
        settled: Blocks after which a candidate that has not fallen behind takes charge; never if 0.

    Attributes:
        incumbent: The policy in charge.
        former: The one that was in charge before it, if it may have the charge back.
        candidate: The policy that gets a share, if any.
        shadow: The policy that is asked besides, if any.
        share: Share of the requests that the candidate gets.
        events: What has happened to policies, the latest last, as sentences.
    """

    def __init__(
        self,
        seat: Seat,
        expect: Callable[[Task, str, float], float] | None = None,
        block_s: float = 30.0,
        settled: int = 0,
    ) -> None:
        self.incumbent = seat
        self.former: Seat | None = None
        self.candidate: Seat | None = None
        self.shadow: Seat | None = None
        self.share = 0.0
        self.events: list[str] = []
        self._expect, self._block_s, self._settled = expect, block_s, settled
        self._guard: Guard | None = None
        self._shadowed = Shadowed()

    def swap(self, seat: Seat, servers: Sequence[Server]) -> None:
        """Give the charge to another policy; a candidate is dropped, since it was compared with the old one.

        Raises:
            InputError: If it fails on the service as it is; then nothing changes.
        """
        seat.try_out(servers)
        self._event(f"The policy '{seat.label}' took charge instead of '{self.incumbent.label}'.")
        self.former, self.incumbent, self.candidate, self._guard = self.incumbent, seat, None, None

    def try_canary(self, seat: Seat, share: float, servers: Sequence[Server]) -> None:
        """Give a candidate a share of the requests.

        Raises:
            InputError: If it fails on the service as it is; then nothing changes.
        """
        seat.try_out(servers)
        self.candidate, self.share = seat, share
        self._guard = Guard(self._block_s, seat.world.clock())
        self._event(f"The policy '{seat.label}' gets {100 * share:g} % of the requests.")

    def set_shadow(self, seat: Seat | None, servers: Sequence[Server]) -> None:
        """Ask another policy besides, or none.

        Raises:
            InputError: If it fails on the service as it is; then nothing changes.
        """
        if seat is not None:
            seat.try_out(servers)
        self.shadow, self._shadowed = seat, Shadowed()

    def promote(self) -> None:
        """Give the charge to the candidate, if there is one."""
        if self.candidate is not None:
            self._event(f"The policy '{self.candidate.label}' took charge instead of '{self.incumbent.label}'.")
            self.former, self.incumbent, self.candidate, self._guard = self.incumbent, self.candidate, None, None

    def retire(self, reason: str) -> None:
        """Take the candidate's slot away, if there is one."""
        if self.candidate is not None:
            self._event(f"The policy '{self.candidate.label}' lost its share: {reason}.")
            self.candidate, self._guard = None, None

    def is_canary(self, key: str) -> bool:
        """Whether a request is the candidate's: always the same for the same key."""
        if self.candidate is None:
            return False
        digest = hashlib.sha256(key.encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64

    def choose(self, task: Task, open_servers: Sequence[Server]) -> Choice:
        """Let the policy decide whose request it is.

        A candidate that fails so often that it has to rest loses its slot, a policy in charge gives that back.

        Raises:
            PolicyFailedError: If the policy in charge fails.
        """
        canary = self.is_canary(task.key)
        seat, chosen = self.incumbent, ""
        if canary and self.candidate is not None:
            seat = self.candidate
            try:
                chosen = seat.choose(task, open_servers)
            except PolicyFailedError as error:
                logger.warning("the candidate failed: %s", error)
                seat, canary = self.incumbent, False
            else:
                self.incumbent.pass_by(task, open_servers)
            if self.candidate.resting:
                self.retire(str(self.candidate.last_failure))
        elif self.candidate is not None:
            self.candidate.pass_by(task, open_servers)
        if not canary:
            try:
                chosen = seat.choose(task, open_servers)
            except PolicyFailedError as error:
                if self.former is None or not seat.resting:
                    raise
                seat = self._give_back(self.former, str(error))
                chosen = seat.choose(task, open_servers)
        return Choice(chosen, seat.label, canary, self._ask_shadow(task, open_servers, chosen))

    def answered(self, key: str, value: float, now: float) -> None:
        """Take into account what a request was worth; more is better.

        Args:
            key: Name of the request.
            value: Its utility, or minus its delay.
            now: Clock reading, s.
        """
        if self._guard is None or not math.isfinite(value):
            return
        self._guard.add(self.is_canary(key), value, now)
        verdict = self._guard.verdict(now)
        if verdict.behind:
            self.retire(
                f"in {verdict.blocks} blocks it was {verdict.difference:.3g} behind "
                f"({verdict.low:.3g} to {verdict.high:.3g})"
            )
        elif self._settled and verdict.blocks >= self._settled:
            self.promote()

    def state(self, now: float) -> dict[str, Any]:
        """Describe who is in charge, the candidate and the shadow."""
        shadow, candidate = None, None
        if self.shadow is not None:
            asked = self._shadowed
            shadow = {
                "name": self.shadow.label,
                "decisions": asked.decisions,
                "agreement": asked.agreed / asked.decisions if asked.decisions else None,
                "expected_gain": asked.gain / asked.decisions if asked.decisions else None,
                "failures": self.shadow.failures,
            }
        if self.candidate is not None and self._guard is not None:
            verdict = self._guard.verdict(now)
            candidate = {
                "name": self.candidate.label,
                "share": self.share,
                "blocks": verdict.blocks,
                "requests": verdict.requests[0],
                "control_requests": verdict.requests[1],
                "difference": verdict.difference if verdict.blocks else None,
                "interval": [verdict.low, verdict.high] if verdict.blocks > 1 else None,
                "failures": self.candidate.failures,
            }
        return {"shadow": shadow, "canary": candidate, "events": self.events[-5:]}

    def _give_back(self, former: Seat, reason: str) -> Seat:
        """Give the charge back; a candidate is dropped, since it was compared with the one that fails."""
        self._event(f"The policy '{self.incumbent.label}' gave the charge back to '{former.label}': {reason}.")
        self.incumbent, self.former, self.candidate, self._guard = former, None, None, None
        return former

    def _ask_shadow(self, task: Task, open_servers: Sequence[Server], chosen: str) -> str:
        if self.shadow is None:
            return ""
        if self.shadow.resting:
            self.shadow.pass_by(task, open_servers)
            return ""
        try:
            other = self.shadow.choose(task, open_servers)
        except PolicyFailedError as error:
            logger.warning("the shadow failed: %s", error)
            return ""
        gain, now = 0.0, self.shadow.world.clock()
        if self._expect is not None and other != chosen:
            gain = self._expect(task, other, now) - self._expect(task, chosen, now)
        self._shadowed.decisions += 1
        self._shadowed.agreed += other == chosen
        self._shadowed.gain += gain
        logger.info("shadow '%s' chose '%s' instead of '%s'", self.shadow.label, other, chosen)
        return other

    def _event(self, sentence: str) -> None:
        logger.warning(sentence)
        self.events.append(sentence)
