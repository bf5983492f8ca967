# SPDX-License-Identifier: Apache-2.0
"""Plugins: rules, methods, worlds and terms of objectives from outside of the package, wherever a name is taken.

A plugin is named by reference, ``path.py:NAME`` or ``package.module:NAME``, or is an entry point of an installed
package. What it is follows from its type: a policy class is a rule, a ``Method`` can be trained, a ``Kind`` is a kind
of world, a ``Term`` is one of an objective. The environment variable ``EDGEGEN_PLUGINS`` carries references, and
modules that register what they hold, to every process: env runners, trials of a sweep and the live service are
processes of their own.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import traceback
from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from edgegen.envs.core.errors import InputError, did_you_mean, first_line
from edgegen.envs.core.named_files import existing, is_file_name
from edgegen.envs.core.paths import beside as path_beside

PLUGINS_VARIABLE = "EDGEGEN_PLUGINS"
"""Environment variable with references, and names of modules to import, separated by commas."""
GROUPS = ("edgegen.kinds", "edgegen.terms", "edgegen.methods", "edgegen.rules")
"""Groups of entry points, in the order in which they are asked: a rule may be for a kind of the same package."""
PYTHON = (".py",)

_PATH_VARIABLE = "PYTHONPATH"
_ADOPTERS = {
    "edgegen.envs.core.kinds": "edgegen.envs.core.kinds",
    "edgegen.envs.core.objectives": "edgegen.envs.core.objectives",
    "edgegen.algorithms.methods.registry": "edgegen.algorithms.methods.registry",
    "edgegen.serve.kinds.registry": "edgegen.serve.kinds.registry",
    "edgegen.algorithms.core.policy": "edgegen.algorithms.core.plugged",
}
"""Modules with a function ``adopt``, by the module of the type that they register. It returns the name under which an
object is known now, or None of one that is not of the type."""

_names: dict[str, str] = {}
"""Names that objects are registered under, by reference."""
_done: set[str] = set()
"""Entries of the environment variable, and entry points, that need no second look."""
_busy: list[str] = []
"""What is being imported; it may look names up itself."""


def is_reference(text: str) -> bool:
    """Whether a text names an object of a module: ``path.py:NAME`` or ``package.module:NAME``."""
    module, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier():
        return False
    return is_file_name(module, PYTHON) or all(part.isidentifier() for part in module.split("."))


def plugged(text: str, file: Path | None = None) -> str:
    """Return the name of what a person names, registered if it is a reference; any other text as it is.

    This process, and those that it starts from now on, know the object by that name.

    Args:
        text: A name, or a reference.
        file: The file that names it, if one does; what is relative is then looked for beside it.

    Raises:
        InputError: If the plugin can not be imported or does not fit.
    """
    if not is_reference(text):
        return text
    reference = _lasting(text, file)
    if "," in reference:
        raise InputError(f"The plugin '{reference}' can not be used: there must be no comma in its path.")
    found = _adopted(reference, f"The plugin '{text}'")
    wanted = _wanted()
    if reference not in wanted:
        os.environ[PLUGINS_VARIABLE] = ",".join([*wanted, reference])
    return found


def with_plugins(data: Any, file: Path, fields: Collection[str]) -> Any:
    """Return the data of a file with references replaced by names, wherever one of some fields holds them.

    Args:
        data: Mappings, lists and plain values, as read.
        file: The file.
        fields: Names of the fields, at any depth.

    Raises:
        InputError: As for :func:`plugged`.
    """

    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [named(one) for one in value]
        return plugged(value, file) if isinstance(value, str) else with_plugins(value, file, fields)

    if isinstance(data, dict):
        return {
            name: named(value) if name in fields else with_plugins(value, file, fields) for name, value in data.items()
        }
    return [with_plugins(one, file, fields) for one in data] if isinstance(data, list) else data


def import_plugins(groups: tuple[str, ...] = GROUPS) -> None:
    """Import what the environment names and what installed packages offer, once.

    Args:
        groups: Groups of entry points.

    Raises:
        InputError: If one can not be imported, does not fit, or takes a name that is taken.
    """
    if _busy:
        return
    for entry in _wanted():
        if entry in _done:
            continue
        lasting = _lasting(entry)
        if is_reference(entry):
            _adopted(lasting, f"{PLUGINS_VARIABLE} names '{entry}', which")
        else:
            _import(lasting, f"{PLUGINS_VARIABLE} names the module '{entry}', which")
        if lasting != entry:  # other processes may start in other folders
            os.environ[PLUGINS_VARIABLE] = ",".join(lasting if one == entry else one for one in _wanted())
        _done.update((entry, lasting))
    for point in _points(groups):
        key = f"{point.group} {point.name}"
        if key not in _done:
            origin = f" of the package '{point.dist.name}'" if point.dist else ""
            _adopted(point.value, f"The entry point '{point.name}'{origin}")
            _done.add(key)


def _wanted() -> list[str]:
    """What the environment names."""
    return [entry for one in os.environ.get(PLUGINS_VARIABLE, "").split(",") if (entry := one.strip())]


def _lasting(entry: str, file: Path | None = None) -> str:
    """A reference or module that means the same in every folder."""
    module, colon, name = entry.rpartition(":") if is_reference(entry) else (entry, "", "")
    if not is_file_name(module, PYTHON):
        return entry
    path = existing(module if file is None else path_beside(file, module), "plugin", PYTHON[0])
    return f"{path.resolve()}{colon}{name}"


@functools.cache
def _points(groups: tuple[str, ...]) -> list[EntryPoint]:
    offered = entry_points()  # once: every call looks through all packages
    return [point for group in groups for point in offered.select(group=group)]


def _adopted(reference: str, what: str) -> str:
    """Register the object of a reference, and return its name."""
    if reference in _names:
        return _names[reference]
    module_name, _, name = reference.rpartition(":")
    module = _import(module_name, what)
    if not hasattr(module, name):
        public = [each for each in vars(module) if not each.startswith("_")]
        raise InputError(f"{what} can not be used: its module has no '{name}'.{did_you_mean(name, public)}")
    found: Any = getattr(module, name)
    _busy.append(reference)
    try:
        bases = found.__mro__ if isinstance(found, type) else type(found).__mro__
        for base in bases:
            adopter = _ADOPTERS.get(base.__module__)
            own = importlib.import_module(adopter).adopt(found, reference) if adopter else None
            if own is not None:
                _names[reference] = own
                return str(own)
    except InputError as error:
        raise InputError(f"{what} can not be used: {error}") from None
    finally:
        _busy.pop()
    raise InputError(
        f"{what} is {_described(found)}, but must be a rule (a class derived from Policy), a method (a Method), a "
        "kind of world (a Kind), how one is served (a Served) or a term of an objective (a Term)."
    )


def _described(thing: Any) -> str:
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    return f"of the type {type(thing).__name__}"


def _import(module: str, what: str) -> ModuleType:
    """Import a module by name, or by the path of its file."""
    _busy.append(module)
    try:
        return _module_at(Path(module), what) if is_file_name(module, PYTHON) else importlib.import_module(module)
    except InputError as error:
        if str(error).startswith(what):
            raise
        raise InputError(f"{what} can not be used: {error}") from None
    except ImportError as error:
        raise InputError(f"{what} can not be imported: {error}.") from None
    except Exception as error:
        raise InputError(f"{what} fails when it is imported: {told(error)}.") from None
    finally:
        _busy.pop()


def _module_at(path: Path, what: str) -> ModuleType:
    """Import a file as the module that it is to Python; its folder is searched from now on, in new processes too."""
    path = existing(path, "plugin", PYTHON[0]).resolve()
    if not path.stem.isidentifier():
        raise InputError(f"{what} can not be imported: '{path.name}' must be named like a variable of Python.")
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    searched = [one for one in os.environ.get(_PATH_VARIABLE, "").split(os.pathsep) if one]
    if folder not in searched:
        os.environ[_PATH_VARIABLE] = os.pathsep.join([*searched, folder])
    module = importlib.import_module(path.stem)
    if Path(getattr(module, "__file__", None) or "").resolve() != path:
        raise InputError(
            f"{what} can not be imported: there is another module '{path.stem}' already; give the file another name."
        )
    return module


def told(error: BaseException) -> str:
    """An error of a plugin in one line: its type, what it says, and the last line outside of libraries."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and not frame.filename.startswith("<") and not _is_ours(frame.filename)
    ]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):  # says itself where
        place = ""
    return f"{type(error).__name__}: {first_line(error)}{place}"


def _is_ours(file: str) -> bool:
    return Path(file).is_relative_to(Path(__file__).parents[2])
