# SPDX-License-Identifier: Apache-2.0
"""Files that are shipped under a name, or that people give by path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.paths import as_path, is_there

YAML = (".yaml", ".yml")
CSV = (".csv",)
PARQUET = (".parquet",)
"""How the names of files end; shipped ones end with the first."""


def is_file_name(text: str, endings: tuple[str, ...] = YAML) -> bool:
    """Whether a text is the path of a file, as opposed to a name."""
    return text.endswith(endings)


def names_in(folder: Path, ending: str = YAML[0]) -> list[str]:
    """Names of the files of a folder."""
    return sorted(path.stem for path in folder.glob(f"*{ending}"))


def existing(path: str | Path, what: str, ending: str = YAML[0]) -> Path:
    """Return the path, with ``~`` as a home folder, if there is such a file.

    Raises:
        InputError: If there is none, or it can not be one.
    """
    path = as_path(path, f"{what.capitalize()} file")
    if path.is_dir():
        raise InputError(f"{what.capitalize()} file '{path}' is a folder; give the name of a file.")
    if is_there(path):
        return path
    near = [str(path.parent / f"{name}{ending}") for name in names_in(path.parent, ending)]
    raise InputError(f"There is no {what} file '{path}'.{did_you_mean(str(path), near)}")


def find_file(
    name: str,
    folder: Path,
    what: str,
    names: Callable[[], Sequence[str]] | None = None,
    asked: str | None = None,
    endings: tuple[str, ...] = YAML,
) -> Path:
    """Return the path of a shipped file that is given by name, or of any that is given by path.

    Args:
        name: Name or path.
        folder: Where shipped files are.
        what: What it is, for example ``scenario``.
        names: Returns the names to choose from; the files of the folder if not given.
        asked: What was asked for, if that is more than the name, such as a variant.
        endings: What tells a path from a name.

    Raises:
        InputError: If there is no such file.
    """
    ending = endings[0]
    if is_file_name(name, endings):
        return existing(name, what, ending)
    if name in names_in(folder, ending):  # looked up among names, because what a person wrote need not be a file's
        return folder / f"{name}{ending}"
    known, wanted = names() if names else names_in(folder, ending), asked or name
    plain = [one for one in known if ":" not in one]  # variants are many
    raise InputError(
        f"Unknown {what} '{wanted}'; shipped ones are {', '.join(plain)}, or give the path of a {ending} file."
        f"{did_you_mean(wanted, known)}"
    )
