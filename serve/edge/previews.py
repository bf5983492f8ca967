# SPDX-License-Identifier: Apache-2.0
"""Previews of the jobs of an edge, for those who watch them come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from edgegen.serve.control.jobs import Glimpse, Job, Preview

LINGER_S = 2.0
"""How long previews can be fetched after their job is done, s: who watched may be on the way."""


@dataclass
class _Shown:
    """What there is to see of a job."""

    loop: asyncio.AbstractEventLoop
    previews: list[Preview] = field(default_factory=list)
    done: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Previews:
    """Keeps the previews of jobs that want some, until shortly after they are done."""

    def __init__(self) -> None:
        self._shown: dict[str, _Shown] = {}

    @contextmanager
    def of(self, job: Job) -> Iterator[None]:
        """Keep what is shown of a job while it is done; nothing if it wants no previews."""
        if not job.previews:
            yield
            return
        name, shown = _name(job), _Shown(asyncio.get_running_loop())
        self._shown[name] = shown
        try:
            yield
        finally:
            shown.done = True
            shown.changed.set()
            shown.loop.call_later(LINGER_S, self._forget, name, shown)

    def show(self, job: Job, preview: Preview) -> None:
        """Take a preview of a job, from whatever thread."""
        shown = self._shown.get(_name(job))
        if shown is not None and not shown.loop.is_closed():
            shown.loop.call_soon_threadsafe(_add, shown, preview)

    async def watch(self, name: str, seen: int, wait_s: float) -> Glimpse:
        """Return what is new of a job, as soon as something is.

        Args:
            name: Key of the job.
            seen: Previews that were seen before.
            wait_s: How long to wait for another one, s.
        """
        shown = self._shown.get(name)
        if shown is None:
            return Glimpse(done=True)
        if len(shown.previews) <= seen and not shown.done:
            shown.changed.clear()
            waiting = asyncio.ensure_future(shown.changed.wait())
            await asyncio.wait({waiting}, timeout=wait_s)
            waiting.cancel()
        return Glimpse(tuple(shown.previews[seen:]), shown.done)

    def _forget(self, name: str, shown: _Shown) -> None:
        if self._shown.get(name) is shown:
            del self._shown[name]


def _add(shown: _Shown, preview: Preview) -> None:
    shown.previews.append(preview)
    shown.changed.set()


def _name(job: Job) -> str:
    return job.key or job.id
