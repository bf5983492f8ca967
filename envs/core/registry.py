"""Registries: what the package and its plugins add, by name.

Entries that come with the package are imported when they are asked for. Others are registered by whoever imports their
module: in every process, because env runners, trials of a sweep and the live service are processes of their own. A
module that the environment variable ``EDGEGEN_PLUGINS`` names is imported everywhere before the first look-up.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Generic, TypeVar

from edgegen.envs.core.errors import InputError

PLUGINS_VARIABLE = "EDGEGEN_PLUGINS"
"""Environment variable with the names of modules to import, separated by commas."""

Entry = TypeVar("Entry")


def import_plugins() -> None:
    """Import the modules that the environment names; they register what they hold.

    Raises:
        InputError: If one can not be imported, or takes a name that is taken.
    """
    for module in filter(None, (name.strip() for name in os.environ.get(PLUGINS_VARIABLE, "").split(","))):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InputError(
                f"{PLUGINS_VARIABLE} names the module '{module}', which can not be imported: {error}."
            ) from None
        except InputError as error:
            raise InputError(
                f"{PLUGINS_VARIABLE} names the module '{module}', which can not be used: {error}"
            ) from None


class Registry(Generic[Entry]):
    """Entries by name, those of the package first.

    Args:
        what: What an entry is, for complaints: ``kind``, ``method``.
        shipped: Where entries of the package are, by name: ``module:NAME``.

    Attributes:
        entries: What has been registered or imported so far.
    """

    def __init__(self, what: str, shipped: Mapping[str, str]) -> None:
        self.what, self.shipped = what, dict(shipped)
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
            InputError: If a module that the environment names can not be imported.
        """
        import_plugins()
        return list(dict.fromkeys([*self.shipped, *self.entries]))

    def all(self) -> dict[str, Entry]:
        """Return all entries by name.

        Raises:
            InputError: If a module that the environment names can not be imported.
        """
        names = self.names()
        for name in names:
            self._load(name)
        return {name: self.entries[name] for name in names}

    def get(self, name: str) -> Entry | None:
        """Return an entry, or None if there is none of that name.

        Raises:
            InputError: If a module that the environment names can not be imported.
        """
        import_plugins()
        self._load(name)
        return self.entries.get(name)

    def _load(self, name: str) -> None:
        if name in self.shipped and name not in self.entries:
            module, _, attribute = self.shipped[name].partition(":")
            self.entries[name] = getattr(importlib.import_module(module), attribute)
