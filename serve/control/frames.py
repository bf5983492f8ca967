# SPDX-License-Identifier: Apache-2.0
"""Frames of a service: at the beginning of each its cacher says what the edges are to keep, and they are told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch

from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.envs.core.errors import InputError
from edgegen.serve.control.jobs import EdgeError
from edgegen.serve.control.ledger import Ledger
from edgegen.serve.control.live_world import Kept, LiveWorld

logger = logging.getLogger(__name__)


class Keeper(Protocol):
    """An edge that can be told what to keep; raises :class:`EdgeError` if it is gone."""

    async def keep(self, wanted: Sequence[str], scores: Mapping[str, float] | None = None) -> None:
        """Take the decision of a frame."""

    async def choose_steps_by(self, decide_steps: Callable[..., int] | None) -> None:
        """Let somebody else choose the steps of jobs."""


class Caching:
    """A policy that says what edges keep, and how it has done.

    Args:
        world: What it sees.
        policy: Decides.
        explore: Whether it samples.
        label: What it is called by the operator; its own name if empty.

    Attributes:
        policy: Decides.
        label: What it is called by the operator.
        decisions: Frames that it has decided.
        failures: Frames in which it failed.
        last_failure: Why it did in the latest of these.
    """

    def __init__(self, world: LiveWorld, policy: Policy, explore: bool = False, label: str = "") -> None:
        self.policy, self.decisions, self.failures = policy, 0, 0
        self.label = label or policy.name
        self.last_failure: str | None = None
        self._world, self._explore = world, explore
        self._memory: Memory | None = None

    def try_out(self) -> None:
        """Let the policy decide about a frame that nobody begins: the first decision takes longer than others.

        Raises:
            InputError: If it fails.
        """
        world, role = self._world, self._world.cacher
        assert role is not None
        world.begin_frame()
        try:
            view = world.observe()
            with torch.inference_mode():
                self.policy.act(role, view, self.policy.begin(role, view), self._explore)
        except Exception as error:  # a policy is foreign code
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(f"The policy '{self.policy.name}' fails on the service as it is: {reason}.") from None
        finally:
            world.end_frame()

    def decide(self) -> Kept | None:
        """Say what edges keep from now on; None if the policy fails: then they go on with what they have."""
        world, role = self._world, self._world.cacher
        assert role is not None
        world.begin_frame()
        try:
            view = world.observe()
            with torch.inference_mode():
                memory = self.policy.begin(role, view) if self._memory is None else self._memory
                action, memory = self.policy.act(role, view, memory, self._explore)
                kept = world.keep(action)
        except Exception as error:  # a policy is foreign code
            self.failures += 1
            self._memory = None
            self.last_failure = f"policy '{self.policy.name}' failed: {type(error).__name__}: {error}".splitlines()[0]
            logger.warning("edges keep what they have: %s", self.last_failure)
            return None
        finally:
            world.end_frame()
        self.decisions += 1
        self._memory = memory
        return kept


class Frames:
    """Counts frames, and tells edges at the beginning of each what to keep.

    Args:
        ledger: What is known of the edges.
        edges: The edges by name.
        frame_s: Length of a frame, s.
        caching: Who says what edges keep; None if they see to it themselves.
        each: Is called in every frame.
    """

    def __init__(
        self,
        ledger: Ledger,
        edges: Mapping[str, Keeper],
        frame_s: float,
        caching: Caching | None,
        each: Callable[[], None] = lambda: None,
    ) -> None:
        self.caching = caching
        self._each = each
        self._steps: Mapping[str, Callable[..., int] | None] = {}
        self._told: dict[str, int] = {}
        self._ledger, self._edges, self._frame_s = ledger, edges, frame_s
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin the first frame, and go on."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Begin no more frames."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def state(self) -> dict[str, Any] | None:
        """Describe who says what edges keep; None if they see to it themselves."""
        if (caching := self.caching) is None:
            return None
        return {
            "name": caching.policy.name,
            "decisions": caching.decisions,
            "failures": caching.failures,
            "last_failure": caching.last_failure,
        }

    async def change_steps(self, steps: Mapping[str, Callable[..., int] | None]) -> None:
        """Let others choose the steps of jobs, at each edge by its name; edges that come back are told again."""
        self._steps, self._told = dict(steps), {}
        await self._tell_steps()

    async def begin(self) -> None:
        """Begin a frame."""
        await self._tell_steps()
        kept = None if self.caching is None else self.caching.decide()
        self._ledger.next_frame()
        self._each()
        if kept is None:
            return
        healthy = {server.name for server in self._ledger.servers if server.healthy}
        told = [self._tell(name, wish.models, wish.scores) for name, wish in kept.wishes.items() if name in healthy]
        await asyncio.gather(*told)

    async def _run(self) -> None:
        while True:
            await self.begin()
            await asyncio.sleep(self._frame_s)

    async def _tell_steps(self) -> None:
        """Tell the edges that do not know yet, or no longer, who chooses the steps."""
        for server in self._ledger.servers:
            name, pid = server.name, None if server.report is None else server.report.pid
            if name not in self._steps or pid is None or not server.healthy or self._told.get(name) == pid:
                continue
            try:
                await self._edges[name].choose_steps_by(self._steps[name])
                self._told[name] = pid
            except EdgeError as error:
                logger.warning("edge '%s' was not told who chooses steps: %s", name, error)
            except Exception:  # the frames must go on
                logger.exception("edge '%s' was not told who chooses steps", name)

    async def _tell(self, name: str, models: Sequence[str], scores: Mapping[str, float]) -> None:
        try:
            await self._edges[name].keep(models, scores)
        except EdgeError as error:
            logger.warning("edge '%s' was not told what to keep: %s", name, error)
        except Exception:  # the frames must go on
            logger.exception("edge '%s' was not told what to keep", name)
