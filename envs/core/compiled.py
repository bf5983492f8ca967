"""Compiled kernels: Numba with its cache in the user's cache folder, so that a read-only installation works."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

if not os.environ.get("NUMBA_CACHE_DIR"):
    _cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    numba.config.CACHE_DIR = str(Path(_cache) / "edgegen" / "numba")


def compiled(function: F) -> F:
    """Compile a function when it is first called with arguments of some types; only the first start pays.

    It runs without the lock of the interpreter, so threads can share copies among them. Arithmetic is kept as written:
    the same numbers come out as in Python.
    """
    return cast(F, numba.njit(cache=True, nogil=True)(function))
