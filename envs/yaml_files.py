"""YAML files that people write, read as a mapping of fields."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from edgegen.envs.errors import InputError


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
