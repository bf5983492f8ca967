# SPDX-License-Identifier: Apache-2.0
"""The queue of an edge: what is to be done in order of arrival, with the loads that this order makes necessary.

A load is planned when the work that needs it joins the queue, against the memory as it will be by then, and done when
its turn comes. So the edge knows all of its work at any time, as fleet worlds do. What falls out of the queue
takes its load with it; then the rest is planned again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from edgegen.serve.edge.residency import NOTHING, Load, Residency, Wish

T = TypeVar("T")


@dataclass(eq=False)  # an item is itself and no other, however alike
class Item(Generic[T]):
    """Something that an edge has to do with a model.

    Attributes:
        model: The model that it needs.
        job: What is to be done with it; None for a load that the cacher asked for.
        joined_s: When it joined the queue, s.
        wish: What the cacher wanted then; decides what goes for the load.
        load: What has to be loaded for it; None if the model will be there.
    """

    model: str
    job: T | None
    joined_s: float
    wish: Wish = NOTHING
    load: Load | None = None


class Queue(Generic[T]):
    """Work in order of arrival, and the memory at both of its ends.

    Args:
        memory: Memory of the edge, as it is.

    Attributes:
        waiting: What has not begun, in order.
        front: The memory once all that has begun is done.
        end: The memory once all of the queue is done.
    """

    def __init__(self, memory: Residency) -> None:
        self.waiting: list[Item[T]] = []
        self.front = memory
        self.end = memory.copy()

    def join(self, model: str, job: T | None, now_s: float, wish: Wish = NOTHING) -> Item[T]:
        """Add something at the end."""
        item = Item(model, job, now_s, wish)
        self._plan(item)
        self.waiting.append(item)
        return item

    def begin(self) -> Item[T]:
        """Take out what is next; its load is then under way."""
        item = self.waiting.pop(0)
        if item.load is not None:
            self.front.apply(item.load)
        if item.job is not None:
            self.front.use(item.model, item.joined_s)
        return item

    def leave(self, item: Item[T]) -> None:
        """Take out something that waits and is not wanted any more."""
        self.waiting.remove(item)
        self._plan_again()

    def fail(self, item: Item[T]) -> None:
        """Note that the load of something that has begun did not succeed."""
        self.front.drop(item.model)
        self._plan_again()

    def _plan(self, item: Item[T]) -> None:
        item.load = self.end.bring(item.model, item.wish)
        if item.job is not None:
            self.end.use(item.model, item.joined_s)

    def _plan_again(self) -> None:
        self.end = self.front.copy()
        for item in self.waiting:
            self._plan(item)
        # The model may be there by now without a load of its own.
        self.waiting = [item for item in self.waiting if item.job is not None or item.load is not None]
