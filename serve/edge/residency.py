# SPDX-License-Identifier: Apache-2.0
"""Memory of an edge: which models are in it, what has to be loaded, and what has to go for that.

The rules are those of fleet worlds (:mod:`edgegen.envs.fleet.memory`), so that a policy meets here what it was trained
with. Beside them there are pins, and scores by which a cacher says more than what it wants.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

FORGETTING = 0.5
"""Share of the demand of a frame that counts in the next one, as in fleet worlds."""


@dataclass(frozen=True)
class Wish:
    """What the cacher of an edge decided for the frame.

    Attributes:
        wanted: Models that it wants in memory.
        scores: Worth of each model, by name; of those that are not wanted the least worthy goes first. Without scores
            the one that was asked for longest ago goes first.
    """

    wanted: frozenset[str] = frozenset()
    scores: Mapping[str, float] = field(default_factory=dict)


NOTHING = Wish()


@dataclass(frozen=True)
class Eviction:
    """A model that leaves the memory of the edge.

    Attributes:
        model: Which one.
        shelved: Whether it stays in the memory of the host.
        forgotten: Models that leave the memory of the host for it, those that came first before others.
    """

    model: str
    shelved: bool = False
    forgotten: tuple[str, ...] = ()


@dataclass(frozen=True)
class Load:
    """A model that comes into the memory of an edge.

    Attributes:
        model: Which one.
        from_host: Whether it is in the memory of the host, and comes from there.
        evictions: What goes for it, in order.
    """

    model: str
    from_host: bool = False
    evictions: tuple[Eviction, ...] = ()


class Residency:
    """The models in the memory of an edge and of its host, at some point of its queue.

    Args:
        sizes_gb: Memory that each model takes, GB; the order of the models decides between equals, as their numbers do
            in fleet worlds.
        memory_gb: Memory for models, GB.
        pinned: Models that never leave it.
        host_memory_gb: Memory of the host for models that have left it, GB.

    Attributes:
        resident: Models in memory, in no order.
        host: Models in the memory of the host, those that came first before others.
    """

    def __init__(
        self,
        sizes_gb: Mapping[str, float],
        memory_gb: float = math.inf,
        pinned: Iterable[str] = (),
        host_memory_gb: float = 0.0,
    ) -> None:
        self.sizes_gb = dict(sizes_gb)
        self.memory_gb = memory_gb
        self.pinned = frozenset(pinned)
        self.host_memory_gb = host_memory_gb
        self.resident: set[str] = set()
        self.host: list[str] = []
        self._used_s: dict[str, float] = {}

    def copy(self) -> Residency:
        """Return the same memory, to be changed apart from this one."""
        twin = Residency(self.sizes_gb, self.memory_gb, self.pinned, self.host_memory_gb)
        twin.resident, twin.host, twin._used_s = set(self.resident), list(self.host), dict(self._used_s)
        return twin

    @property
    def taken_gb(self) -> float:
        """Memory that is taken, GB."""
        return self._size_gb(self.resident)

    def at_start(self) -> tuple[str, ...]:
        """Return the models that an edge starts with: its pins, then the others in order, each if there is room."""
        chosen = [model for model in self.sizes_gb if model in self.pinned]
        for model in self.sizes_gb:
            if model not in chosen and self._size_gb([*chosen, model]) <= self.memory_gb:
                chosen.append(model)
        return tuple(chosen)

    def affordable(self, wish: Wish, demand: Mapping[str, float]) -> Wish:
        """Return a wish without what there is no room for: the least worthy of it goes until the rest fits.

        Args:
            wish: What the cacher wants.
            demand: What was asked for, by model; decides where scores do not, and the last in order goes among equals.
        """
        order = list(self.sizes_gb)
        wanted = [model for model in order if model in wish.wanted or model in self.pinned]
        while self._size_gb(wanted) > self.memory_gb:
            free = [model for model in wanted if model not in self.pinned]
            if not free:
                break

            def worth(model: str) -> tuple[float, float, int]:
                return wish.scores.get(model, 0.0), demand.get(model, 0.0), -order.index(model)

            wanted.remove(min(free, key=worth))
        return Wish(frozenset(wanted), wish.scores)

    def missing(self, wish: Wish) -> list[str]:
        """Return the models that are wanted and not resident, in the order in which they are loaded."""
        return [model for model in self.sizes_gb if model in wish.wanted and model not in self.resident]

    def bring(self, model: str, wish: Wish = NOTHING) -> Load | None:
        """Bring in a model that is not resident, and evict what has to go for it; None if it is there already."""
        if model in self.resident:
            return None
        load = self._plan(model, wish)
        self.apply(load)
        return load

    def use(self, model: str, at_s: float) -> None:
        """Note that a model is asked for."""
        self._used_s[model] = at_s

    def apply(self, load: Load) -> None:
        """Do what a load says."""
        if load.model in self.host:
            self.host.remove(load.model)
        for eviction in load.evictions:
            self.resident.discard(eviction.model)
            self.host = [model for model in self.host if model not in eviction.forgotten]
            if eviction.shelved:
                self.host.append(eviction.model)
        self.resident.add(load.model)

    def drop(self, model: str) -> None:
        """Note that a model is not there after all: it could not be loaded."""
        self.resident.discard(model)

    def _plan(self, model: str, wish: Wish) -> Load:
        room = self.copy()
        from_host = model in room.host
        if from_host:
            room.host.remove(model)
        evictions = []
        while room.taken_gb + self.sizes_gb[model] > self.memory_gb:
            worst = room._least_worthy(wish)
            if worst is None:
                break
            room.resident.remove(worst)
            evictions.append(room._shelve(worst))
        return Load(model, from_host, tuple(evictions))

    def _least_worthy(self, wish: Wish) -> str | None:
        def worth(model: str) -> tuple[bool, float, float]:
            return model in wish.wanted, wish.scores.get(model, 0.0), self._used_s.get(model, 0.0)

        return min((m for m in self.sizes_gb if m in self.resident and m not in self.pinned), key=worth, default=None)

    def _shelve(self, model: str) -> Eviction:
        if self.sizes_gb[model] > self.host_memory_gb:
            return Eviction(model)
        forgotten = []
        while self._size_gb([*self.host, model]) > self.host_memory_gb:
            forgotten.append(self.host.pop(0))
        self.host.append(model)
        return Eviction(model, True, tuple(forgotten))

    def _size_gb(self, models: Iterable[str]) -> float:
        return sum(self.sizes_gb[model] for model in sorted(models))  # in one order, so that sums are equal
