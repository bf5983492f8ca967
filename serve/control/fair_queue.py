# SPDX-License-Identifier: Apache-2.0
"""Requests that wait at a gateway, in fair turns of those who sent them: start-time fair queueing over estimated work.

Goyal, Vin, Cheng: Start-time fair queueing, IEEE/ACM Transactions on Networking 5(5), 1997. Every tenant has a virtual
time that runs on with the work done for it, divided by its weight; the tenant whose time is earliest is next. One that
comes back after a pause begins at the present and has neither saved anything up nor anything to pay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

MOST_TENANTS = 2000
"""Tenants that are remembered though nothing of theirs waits."""


@dataclass(eq=False)  # a request is itself and no other, however alike
class Held:
    """A request that waits.

    Attributes:
        tenant: Who sent it.
        model: The model it needs.
        work_gcycles: Estimated work, Gcycle.
        priority: Among requests of its tenant; higher ones are first.
        share: Share of its tenant from now on; that which the queue knows if None.
    """

    tenant: str
    model: str
    work_gcycles: float
    priority: int = 1
    share: float | None = None


@dataclass
class _Tenant:
    """What one tenant has waiting."""

    weight: float
    start: float  # virtual time at which its next request begins
    lines: dict[tuple[int, str], dict[Held, None]] = field(default_factory=dict)  # by (-priority, model)
    work_gcycles: float = 0.0

    def in_order(self) -> Iterator[dict[Held, None]]:
        return (self.lines[key] for key in sorted(self.lines))


class FairQueue:
    """The queue.

    Args:
        weights: Shares of tenants, relative to 1, which is that of all others.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = weights or {}
        self._tenants: dict[str, _Tenant] = {}
        self._now = 0.0  # virtual time
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def work_gcycles(self) -> float:
        """Work of all that waits, Gcycle."""
        return sum(tenant.work_gcycles for tenant in self._tenants.values())

    def add(self, held: Held) -> None:
        """Take a request in, behind those of its tenant with the same priority."""
        tenant = self._tenants.get(held.tenant)
        if tenant is None:
            tenant = self._tenants[held.tenant] = _Tenant(1.0, self._now)
        tenant.weight = self._weight(held)
        tenant.start = max(tenant.start, self._now) if not tenant.lines else tenant.start
        tenant.lines.setdefault((-held.priority, held.model), {})[held] = None
        tenant.work_gcycles += held.work_gcycles
        self._count += 1

    def remove(self, held: Held) -> bool:
        """Take a request out that is not to be served; false if it does not wait."""
        tenant = self._tenants.get(held.tenant)
        key = (-held.priority, held.model)
        if tenant is None or held not in tenant.lines.get(key, ()):
            return False
        del tenant.lines[key][held]
        self._count -= 1
        tenant.work_gcycles -= held.work_gcycles
        if not tenant.lines[key]:
            del tenant.lines[key]
        if not tenant.lines:
            tenant.work_gcycles = 0.0  # sums of floats do not come back to it
            self._forget_idle()
        return True

    def next(self, is_open: Callable[[str], bool]) -> Held | None:
        """Take out the request whose turn it is.

        Args:
            is_open: Whether a model can take a request at the moment; asked once for each.
        """
        known: dict[str, bool] = {}
        waiting = [tenant for tenant in self._tenants.values() if tenant.lines]
        for tenant in sorted(waiting, key=lambda tenant: tenant.start):
            for line in tenant.in_order():
                held = next(iter(line))
                if held.model not in known:
                    known[held.model] = is_open(held.model)
                if known[held.model]:
                    self._now = max(self._now, tenant.start)
                    tenant.start += held.work_gcycles / tenant.weight
                    self.remove(held)
                    return held
        return None

    def ahead_gcycles(self, held: Held) -> float:
        """Work that will be begun before a request that comes now, Gcycle, if nothing else comes."""
        own = self._tenants.get(held.tenant)
        weight = self._weight(held)
        before = 0.0
        start = self._now
        if own is not None:
            start = max(own.start, self._now)
            lines = (line for (rank, _), line in own.lines.items() if rank <= -held.priority)
            before = sum(one.work_gcycles for line in lines for one in line)
        start += before / weight
        for name, other in self._tenants.items():
            if name != held.tenant and other.lines:
                # All that it begins until then, and half a request of the size of this one for the last of them.
                begun = (start - other.start) * other.weight + held.work_gcycles / 2
                before += min(max(begun, 0.0), other.work_gcycles)
        return before

    def would_be_before(self, new: Held, last: Held) -> bool:
        """Whether a request that comes now would be served before one of another tenant that is that one's last."""
        own, other = self._tenants.get(new.tenant), self._tenants[last.tenant]
        start = self._now
        if own is not None:
            start = max(own.start, self._now) + own.work_gcycles / own.weight
        return start < other.start + (other.work_gcycles - last.work_gcycles) / other.weight

    def last(self) -> Held | None:
        """The request that would be served last, as things are."""
        waiting = [tenant for tenant in self._tenants.values() if tenant.lines]
        if not waiting:
            return None
        tenant = max(waiting, key=lambda tenant: tenant.start + tenant.work_gcycles / tenant.weight)
        *_, line = tenant.in_order()
        return next(reversed(line))

    def _weight(self, held: Held) -> float:
        return self._weights.get(held.tenant, 1.0) if held.share is None else held.share

    def _forget_idle(self) -> None:
        """Forget tenants that have nothing waiting and nothing to pay; of too many also those with least to pay."""
        gone = [name for name, tenant in self._tenants.items() if not tenant.lines and tenant.start <= self._now]
        for name in gone:
            del self._tenants[name]
        if len(self._tenants) > MOST_TENANTS:  # names cost whoever makes them up nothing
            idle = [(tenant.start, name) for name, tenant in self._tenants.items() if not tenant.lines]
            for _, name in sorted(idle)[: MOST_TENANTS // 2]:
                del self._tenants[name]
