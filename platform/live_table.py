# SPDX-License-Identifier: Apache-2.0
"""A table on the screen that follows what goes on, where there is a screen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live


class LiveTable(ABC):
    """Shown for the length of a block; where output is piped, subclasses write lines instead.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None

    @abstractmethod
    def render(self) -> RenderableType:
        """What is shown now."""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the table on the screen for the length of a block."""
        if not self.console.is_interactive:
            yield
            return
        with Live(console=self.console, get_renderable=self.render, refresh_per_second=2) as live:
            self._live = live
            yield


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
