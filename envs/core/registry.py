# SPDX-License-Identifier: Apache-2.0
"""Registries: what the package and its plugins add, by name.

Entries that come with the package are imported when they are asked for. Plugins (:mod:`edgegen.envs.core.plugins`) are
imported before the first look-up, in every process.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Generic, TypeVar

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.plugins import GROUPS, import_plugins

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Entries by name, those of the package first.

    Args:
        what: What an entry is, for complaints: ``kind``, ``method``.
        shipped: Where entries of the package are, by name: ``module:NAME``.
        groups: Groups of entry points whose plugins may add to it.

    Attributes:
        entries: What has been registered or imported so far.
    """

    def __init__(self, what: str, shipped: Mapping[str, str], groups: tuple[str, ...] = GROUPS) -> None:
        self.what, self.shipped, self.groups = what, dict(shipped), groups
        self.entries: dict[str, Entry] = {}

    def register(self, name: str, entry: Entry) -> Entry:
        """Add an entry; registering the same one again changes nothing.

        Raises:
            InputError: If there is another one of this name.
        """
        self._load(name)
        if self.entries.setdefault(name, entry) is not entry:
            raise InputError(f"There is a {self.what} '{name}' already.")
        return entry

    def names(self) -> list[str]:
        """Return all names, without importing the package's entries.

        Raises:
            InputError: If a plugin can not be used.
        """
        import_plugins(self.groups)
        return list(dict.fromkeys([*self.shipped, *self.entries]))

    def all(self) -> dict[str, Entry]:
        """Return all entries by name.

        Raises:
            InputError: If a plugin can not be used.
        """
        names = self.names()
        for name in names:
            self._load(name)
        return {name: self.entries[name] for name in names}

    def get(self, name: str) -> Entry | None:
        """Return an entry, or None if there is none of that name.

        Raises:
            InputError: If a plugin can not be used.
        """
        import_plugins(self.groups)
        self._load(name)
        return self.entries.get(name)

    def _load(self, name: str) -> None:
        if name in self.shipped and name not in self.entries:
            module, _, attribute = self.shipped[name].partition(":")
            self.entries[name] = getattr(importlib.import_module(module), attribute)
