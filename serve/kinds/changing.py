# SPDX-License-Identifier: Apache-2.0
"""Changes of a service's policies while it serves: loaded apart from its requests, tried, then put in their slots."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.core.registered import fetch, is_registered, pinned
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.fields import Frozen, Positive
from edgegen.serve.config import ROLES, ServiceConfig
from edgegen.serve.control.books import Server
from edgegen.serve.control.frames import Caching, Frames
from edgegen.serve.control.seat import Seat, Trust
from edgegen.serve.control.slots import Slots
from edgegen.serve.kinds.cast import CACHER, ROUTER, Part, allocators, make_parts, parts_of
from edgegen.serve.kinds.registry import Clock, served

logger = logging.getLogger(__name__)


class Orders(Frozen):
    """What an operator wants of the policies of a service; what is left out stays as it is.

    Attributes:
        policy: Who is to be in charge, as in the config.
        shadow: Who is to be asked besides; nobody if empty.
        canary: Who is to get a share of the requests; nobody if empty.
        canary_share: That share.
        promote: Whether the present canary is to take charge.
    """

    policy: str | None = None
    shadow: str | None = None
    canary: str | None = None
    canary_share: Positive | None = None
    promote: bool = False


class Changing:
    """Makes the slots of a service, and changes what is in them.

    Args:
        config: The service.
        servers: The books of its edges.
        clock: Monotonic time, s.

    Attributes:
        parts: Who decides for which role.
        last_refusal: Why the latest order was refused, or None.
    """

    def __init__(self, config: ServiceConfig, servers: Sequence[Server], clock: Clock) -> None:
        self._config, self._servers, self._clock = config, servers, clock
        self.parts = parts_of(config)
        self._followed: str | None = None
        self._following: asyncio.Task[None] | None = None
        self.last_refusal: str | None = None

    def seat(self, part: Part, policy: Policy) -> Seat:
        """Make a seat for a router."""
        config = self._config
        world = served(part.kind).world(config, self._servers, policy, self._clock)
        trust = Trust(config.decision_budget_s, config.decision_strikes, config.rest_s)
        return Seat(world, policy, config.explore, trust, part.name)

    def caching(self, part: Part, policy: Policy) -> Caching:
        """Make what says what edges keep."""
        world = served(part.kind).world(self._config, self._servers, policy, self._clock)
        return Caching(world, policy, self._config.explore, part.name)

    def take_over(self, slots: Slots, frames: Frames) -> None:
        """Change these slots from now on."""
        self._slots, self._frames = slots, frames

    async def start(self) -> None:
        """Fill the slots of shadow and canary, and follow the alias, as the config says."""
        config = self._config
        if config.shadow or config.canary:
            await self.obey(Orders(shadow=config.shadow, canary=config.canary))
        if config.follow:
            self._following = asyncio.create_task(self._follow(config.follow))

    async def stop(self) -> None:
        """Follow no longer."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def obey(self, orders: Orders) -> str | None:
        """Change what orders say, each whole or not at all.

        Returns:
            Why one of them was refused, in one sentence; None if none was.
        """
        self.last_refusal = None
        try:
            if orders.promote:
                self._slots.promote()
            if orders.policy is not None:
                await self._charge(orders.policy)
            if orders.shadow is not None:
                seat = await self._router(orders.shadow) if orders.shadow else None
                self._slots.set_shadow(seat, self._servers)
            if orders.canary is not None:
                await self._canary(orders.canary, orders.canary_share or self._config.canary_share)
        except InputError as error:
            self.last_refusal = str(error)
            logger.warning("policies stay as they are: %s", error)
        return self.last_refusal

    async def _charge(self, policy: str) -> None:
        """Give the charge to another policy, of the router, and of cacher and allocators, if it names such."""
        parts, seat, caching, policies = await asyncio.to_thread(self._made, policy, ROLES)
        config = self._config.model_copy(update={"policy": policy})
        steps = await asyncio.to_thread(allocators, config, policies)
        self._slots.swap(seat, self._servers)
        self._frames.caching, self.parts = caching, parts
        await self._frames.change_steps(steps)

    async def _canary(self, policy: str, share: float) -> None:
        if policy:
            self._slots.try_canary(await self._router(policy), share, self._servers)
        else:
            self._slots.retire("the operator took it away")

    async def _router(self, policy: str) -> Seat:
        _, seat, *_ = await asyncio.to_thread(self._made, policy, (ROUTER, CACHER))
        return seat

    def _made(
        self, policy: str, roles: tuple[str, ...]
    ) -> tuple[dict[str, Part], Seat, Caching | None, dict[str, Policy]]:
        """Load policies and try them out; apart from the loop, because the first time takes long and requests go on."""
        config = self._config.model_copy(update={"policy": policy})
        parts = parts_of(config)
        policies = make_parts(config, parts, roles)
        seat = self.seat(parts[ROUTER], policies[ROUTER])
        seat.try_out(self._servers)
        caching = self.caching(parts[CACHER], policies[CACHER]) if CACHER in policies else None
        if caching is not None:
            caching.try_out()
        return parts, seat, caching, policies

    async def _follow(self, alias: str) -> None:
        told = ""
        while True:
            try:
                version = await asyncio.to_thread(pinned, alias)
                if version != self._followed:
                    # What can not be fetched now may be there the next time; what does not fit will not.
                    names = {version, await asyncio.to_thread(_fetched, version)}
                    try:
                        if self._followed is not None or self._config.policy not in names:
                            await self._take(version)
                    finally:
                        self._followed = version
                told = ""
            except InputError as error:
                if str(error) != told:  # and not at every look, as long as it is the same
                    told = str(error)
                    logger.warning("the alias can not be followed: %s", error)
            except Exception:  # it may be there again the next time
                logger.exception("the alias %s can not be followed", alias)
            await asyncio.sleep(self._config.follow_s)

    async def _take(self, version: str) -> None:
        gradual = self._config.canary_blocks > 0
        await self.obey(Orders(canary=version) if gradual else Orders(policy=version))

    def state(self) -> dict[str, Any]:
        """Describe what is followed, and what was refused."""
        return {"follow": self._config.follow, "version": self._followed, "refused": self.last_refusal}


def _fetched(version: str) -> str:
    """Another name of a version: the folder that it is in after it was fetched."""
    return str(fetch(version)) if is_registered(version) else version
