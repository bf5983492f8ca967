# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels: Numba with its cache in the user's cache folder, so that a read-only installation works."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from filelock import FileLock

F = TypeVar("F", bound=Callable[..., Any])

ROOMS = tuple(Path(__file__).parents[2] / room for room in ("envs", "algorithms"))
"""Where kernels are."""


def kernels_digest(rooms: tuple[Path, ...] = ROOMS) -> str:
    """Digest of all files with kernels in some folders.

    Numba looks at the file of a kernel alone, and not at the kernels of other files that it calls: without a folder
    for each state of all of them, a changed equation would go on as it was in whoever calls it.
    """
    digest = hashlib.sha256()
    for path in sorted(path for room in rooms for path in room.rglob("*.py")):
        source = path.read_bytes()
        if any(kind in source for kind in (b"@compiled", b"@inlined", b"@allocating")):
            digest.update(source)
    return digest.hexdigest()[:16]


_base = os.environ.get("NUMBA_CACHE_DIR")
if not _base:
    _base = str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgegen" / "numba")
numba.config.CACHE_DIR = str(Path(_base) / kernels_digest())


def compiled(function: F) -> F:
    """Compile a function when it is first called with arguments of some types; only the first start pays.

    It runs without the lock of the interpreter, so threads can share copies among them. Arithmetic is kept as written:
    the same numbers come out as in Python, but for divisions by zero, which give infinity or not-a-number.

    It counts no references, because that costs more than most of what these functions do: an atomic addition for every
    array of their arguments at every call. So it can neither make nor return arrays; :func:`allocating` can. Whoever
    calls it holds the arrays.
    """
    return _made(function, _nrt=False)


def inlined(function: F) -> F:
    """Compile a function into whoever calls it, as :func:`compiled`: for what is done for every request.

    Arguments are handed over in memory, several words for every array of a tuple, unless the call is inlined.
    """
    return _made(function, _nrt=False, forceinline=True)


def allocating(function: F) -> F:
    """Compile a function that makes arrays, or returns some; otherwise as :func:`compiled`, which loops belong in."""
    return _made(function, _nrt=True)


def _made(function: F, **options: bool) -> F:
    made = numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    return cast(F, _one_at_a_time(made, counts=options["_nrt"]))


def _holds_arrays(kind: Any) -> bool:
    """Whether values of a type of Numba are arrays or hold some."""
    parts = getattr(kind, "types", ())
    return isinstance(kind, numba.types.Array) or any(_holds_arrays(part) for part in parts)


_lock = FileLock(Path(numba.config.CACHE_DIR) / ".lock")


def _one_at_a_time(dispatcher: Any, counts: bool) -> Any:
    """Let one process at a time compile, or load what another one has compiled.

    Numba numbers the files of a function's signatures by an index that it reads, and writes later: two processes that
    compile other signatures at the same time would take the same number, and one would load the code of the other.
    """
    compile_now = dispatcher.compile

    def compile_alone(signature: Any) -> Any:
        held: Any = contextlib.nullcontext()
        with contextlib.suppress(OSError):  # nothing can be written here, so nothing is kept either
            Path(numba.config.CACHE_DIR).mkdir(parents=True, exist_ok=True)
            held = _lock.acquire()
        with held:
            entry = compile_now(signature)
        if not counts and any(_holds_arrays(made.return_type) for made in dispatcher.nopython_signatures):
            raise TypeError(f"{dispatcher.py_func.__name__} returns arrays; only what is allocating may")
        return entry

    dispatcher.compile = compile_alone
    return dispatcher
