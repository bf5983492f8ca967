# SPDX-License-Identifier: Apache-2.0
"""Paths in database URLs: the one place that writes a path into a URL, and reads it back."""

from __future__ import annotations

import threading
from pathlib import Path

from edgegen.envs.core.errors import InputError

_SQLITE = "sqlite"
_NAMED_DRIVER = "sqlite+pysqlite"
_IN_MEMORY = ":memory:"

IMPORTING = threading.RLock()
"""Held while SQLAlchemy or MLflow is imported: threads that begin to at once meet each other's half-made modules."""


def database_url(file: Path) -> str:
    """The URL of an SQLite database, whatever the names in its path.

    Raises:
        InputError: If the installed SQLAlchemy has no URL for such a path.
    """
    with IMPORTING:
        from sqlalchemy.engine import URL
    path = str(file.resolve())
    plain = f"{_SQLITE}:///{path}"
    if _path_in(plain) == path:
        return plain
    # MLflow makes the folder of a database whose URL begins with sqlite:/// and forgets to decode its name. Naming the
    # driver spares people an empty folder of that name.
    quoted = URL.create(_NAMED_DRIVER, database=path).render_as_string(hide_password=False)
    if _path_in(quoted) == path:
        return quoted
    raise InputError(
        f"The database '{file}' can not be used: the installed SQLAlchemy has no URL for a path with '?' in it; use a "
        "folder of another name, or SQLAlchemy 2.1 or newer."
    )


def database_file(url: str) -> Path | None:
    """The file of an SQLite database, given its URL; None for everything else, databases in memory included."""
    path = _path_in(url)
    return None if path is None else Path(path)


def _path_in(url: str) -> str | None:
    if not url.startswith(_SQLITE):
        return None
    with IMPORTING:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        return None
    path = parsed.database
    if backend != _SQLITE or not path or path == _IN_MEMORY or path.startswith("file:"):  # the last is a URL again
        return None
    return path
