# SPDX-License-Identifier: Apache-2.0
"""What other programs hand to the PettingZoo environments, checked: arguments, seeds and choices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgegen.envs.core.errors import InputError

_LONGEST = 80  # characters of a value in a message


def shown(value: object) -> str:
    """The value as a message shows it: one line, and not a long one."""
    line = " ".join(repr(value).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def numbers(value: Any) -> np.ndarray | None:
    """The value as an array of numbers, or None if it is no such thing."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # ragged lists; tensors of another device, or with a gradient
        return None
    return array if array.dtype.kind in "biuf" else None


def whole_number(value: Any) -> int | None:
    """The whole number that a value is, or None if it is none.

    Numpy's and torch's integers count, and arrays of shape ``()`` and ``(1,)``, which vectorising libraries send.
    Numbers with a fraction do not, even where it is zero.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    array = numbers(value)
    if array is None or array.dtype.kind not in "iu" or array.shape not in ((), (1,)):
        return None
    return int(array.item())


def chosen(agent: str, action: Any, choices: int, what: str) -> int:
    """The choice that an action of an agent is.

    Args:
        agent: Who acts.
        action: What the agent sent.
        choices: Number of choices.
        what: What is chosen, for the message: ``"a server"``.

    Raises:
        InputError: If there is no such choice.
    """
    choice = whole_number(action)
    if choice is None or not 0 <= choice < choices:
        raise InputError(
            f"the action of {agent} is {shown(action)}, but must be {what} 0..{choices - 1}, as an integer or an "
            "integer array of shape () or (1,)."
        )
    return choice


def checked_option(name: str, value: Any, options: Sequence[str | None]) -> None:
    """Check that an argument has one of a few values.

    Raises:
        InputError: If it has another one.
    """
    if not any(value is option or (isinstance(value, str) and value == option) for option in options):
        *others, last = map(repr, options)
        raise InputError(f"{name} is {shown(value)}, but must be {', '.join(others)} or {last}.")


def checked_flag(name: str, value: Any) -> None:
    """Check that an argument is true or false.

    Raises:
        InputError: If it is something else.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} is {shown(value)}, but must be True or False.")


def checked_max_cycles(max_cycles: Any) -> int | None:
    """The most steps of an episode, or None for no limit.

    Raises:
        InputError: If it is something else.
    """
    if max_cycles is None:
        return None
    most = whole_number(max_cycles)
    if most is None or most < 1:
        raise InputError(
            f"max_cycles is {shown(max_cycles)}, but must be a whole number of at least 1, or None for no limit."
        )
    return most


def stream_seed(seed: Any, seeded: bool) -> int | None:
    """The seed to reset the simulator with, or None for the next episode of the stream.

    Args:
        seed: What ``reset`` was given.
        seeded: Whether the stream has a seed already; if not, and none is given, the operating system draws one.

    Raises:
        InputError: If the seed is no whole number, or negative.
    """
    if seed is None:
        return None if seeded else int(np.random.SeedSequence().generate_state(1)[0])
    number = whole_number(seed)
    if number is None or number < 0:
        raise InputError(
            f"seed is {shown(seed)}, but must be a whole number of at least 0, or None for the next episode."
        )
    return number
