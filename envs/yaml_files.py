"""YAML files that people write: found by name or path, and read as a mapping of fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from edgegen.envs.errors import InputError, did_you_mean


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # one of two classes
    """Safe, and in C where PyYAML has that; reads 1e-4 as a number, as everyone means it: YAML 1.1 wants a dot."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_yaml(text: str) -> Any:
    """Return what a YAML text says.

    Raises:
        yaml.YAMLError: If it is none.
    """
    return yaml.load(text, Loader=_Loader)


def is_file_name(text: str) -> bool:
    """Whether a text is the path of a YAML file, as opposed to a name."""
    return text.endswith((".yaml", ".yml"))


def names_in(folder: Path) -> list[str]:
    """Names of the YAML files of a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def existing(path: Path, what: str) -> Path:
    """Return the path if there is such a file.

    Raises:
        InputError: If there is none.
    """
    if path.exists():
        return path
    near = [str(path.parent / f"{name}.yaml") for name in names_in(path.parent)]
    raise InputError(f"There is no {what} file '{path}'.{did_you_mean(str(path), near)}")


def find_yaml(
    name: str, folder: Path, what: str, names: Callable[[], Sequence[str]] | None = None, asked: str | None = None
) -> Path:
    """Return the path of a shipped file that is given by name, or of any that is given by path.

    Args:
        name: Name or path.
        folder: Where shipped files are.
        what: What it is, for example ``scenario``.
        names: Returns the names to choose from; the files of the folder if not given.
        asked: What was asked for, if that is more than the name, such as a variant.

    Raises:
        InputError: If there is no such file.
    """
    if is_file_name(name):
        return existing(Path(name).expanduser(), what)
    path = folder / f"{name}.yaml"
    if path.is_file():
        return path
    known, wanted = names() if names else names_in(folder), asked or name
    raise InputError(
        f"Unknown {what} '{wanted}'; shipped ones are {', '.join(known)}, or give the path of a .yaml file."
        f"{did_you_mean(wanted, known)}"
    )


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """Read the fields of a YAML file.

    Args:
        path: The file.
        what: What it is, to begin a sentence with, for example ``Scenario file``.

    Raises:
        InputError: If it can not be read, is no YAML, or does not hold a mapping.
    """
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{what} '{path}' can not be read: {reason}.") from None
    if not isinstance(data, dict):
        raise InputError(f"{what} '{path}' must hold a mapping of fields, not {type(data).__name__}.")
    return data
