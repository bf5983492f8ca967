# SPDX-License-Identifier: Apache-2.0
"""The one error that means "the input is wrong", as opposed to "the program is wrong"."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from pydantic import ValidationError

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class InputError(ValueError):
    """Bad input from a person or another program: a scenario, a flag, a trace, a checkpoint.

    The message is one sentence that names the field, the value it had and what is allowed. Command line and HTTP
    front ends print it as it is, without a traceback.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known name, or an empty string if none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def shortened(text: str, most: int = 80) -> str:
    """The text, cut where it is too long for a sentence."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def first_line(error: BaseException | str) -> str:
    """The first line of an error that says something; of a traceback from another process, the error at its end."""
    lines = [line for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    if lines and lines[0].startswith("ray::"):  # names the actor; then come its frames, indented, then the error
        lines = [line for line in lines[1:] if not line[0].isspace()] or lines
    return lines[0].strip().rstrip(".:") if lines else type(error).__name__


_SHAPES = {
    **dict.fromkeys(("tuple_type", "list_type"), "must be a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "must be a mapping of names to values"),
}
"""What people call what pydantic calls tuples and instances of models."""


def from_validation(error: ValidationError, what: str, known: Iterable[str] = ()) -> InputError:
    """Turn the first complaint of a pydantic validation into one sentence.

    Args:
        error: What pydantic raised.
        what: What was being read, for example ``"scenario 'demo'"``.
        known: Field names, for a suggestion when the field is unknown.
    """
    first = error.errors(include_url=False)[0]
    # The branch of a union that did not fit is a part of the place, too, for example literal['once'].
    field = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
    if first["type"] == "extra_forbidden":
        names = sorted(known)
        leaf = str(first["loc"][-1])
        allowed = f"; known fields are {', '.join(names)}" if names else ""
        return InputError(f"{what}: unknown field '{field}'{allowed}.{did_you_mean(leaf, names)}")
    if first["type"] == "missing":
        return InputError(f"{what}: the field '{field}' is missing.")
    message = _SHAPES.get(first["type"], first["msg"]).removeprefix("Value error, ").removesuffix(".")
    end = "" if message.endswith("?") else "."
    if not field:  # a rule over several fields; its message names them
        return InputError(f"{what}: {message}{end}")
    shown = shortened(repr(first["input"]))
    return InputError(f"{what}: the field '{field}' is {shown}, but {message[0].lower()}{message[1:]}{end}")
