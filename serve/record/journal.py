# SPDX-License-Identifier: Apache-2.0
"""The files of a recording: a journal that grows row by row, and the Parquet file that it becomes.

Whoever writes a journal holds a lock on it, which ends with its process. A journal without a lock was left behind by a
process that died, and the next one to start makes a Parquet file of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.named_files import PARQUET
from edgegen.envs.core.paths import WRITTEN, as_path, reason_of, replacing
from edgegen.envs.core.records import JOURNAL, read_journal

logger = logging.getLogger(__name__)

KEY_FILE, KEY_BYTES = "prompt-key", 32
BYTES_PER_MB = 10**6


class Journal:
    """A file of rows that only grows.

    Args:
        folder: Where it is to be.

    Attributes:
        path: The file.
        rows: Rows in it.
        begun_s: When it was begun, monotonic time, s.

    Raises:
        OSError: If there can be no such file.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.rows, self.begun_s = 0, time.monotonic()
        self._size = 0
        while True:
            name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}{JOURNAL}"
            self.path = folder / name
            self._file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o644)
            if _locked(self._file) and not self.is_gone:
                return
            os.close(self._file)  # somebody took it for one that was left behind

    @property
    def is_gone(self) -> bool:
        """Whether somebody has deleted it."""
        return os.fstat(self._file).st_nlink == 0

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows, all or none; when this returns they outlive the process.

        Raises:
            OSError: If they could not be written.
        """
        left = memoryview("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode())
        size = self._size + len(left)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size = size
        self.rows += len(rows)

    def close(self) -> None:
        """Make a Parquet file of it, in its place.

        Raises:
            InputError: If that can not be written; the journal then stays, and is one that was left behind.
        """
        try:
            _convert(self.path)
        finally:
            os.close(self._file)


def recover(folder: Path) -> int:
    """Make Parquet files of the journals that processes which died have left behind; returns how many."""
    found = 0
    for path in sorted(folder.glob(f"*{JOURNAL}")):
        try:
            with path.open("rb") as file:
                if _locked(file.fileno()):
                    _convert(path)
                    found += 1
        except FileNotFoundError:  # another process was first
            continue
        except (OSError, InputError) as error:
            logger.warning("the journal '%s' is left as it is: %s", path, error)
    return found


def prune(folder: Path, most_mb: float) -> None:
    """Delete the oldest Parquet files of a folder until the others take at most so many megabytes; the newest stays."""
    sizes = {}
    for path in sorted(folder.glob(f"*{PARQUET[0]}")):
        with contextlib.suppress(FileNotFoundError):
            sizes[path] = path.stat().st_size
    for path in list(sizes)[:-1]:
        if sum(sizes.values()) <= most_mb * BYTES_PER_MB:
            return
        path.unlink(missing_ok=True)
        del sizes[path]


def prompt_key(folder: Path) -> bytes:
    """The key of the hashes of prompts in a folder, which is made when it is asked for first.

    Raises:
        OSError: If it can be neither read nor written.
    """
    path = folder / KEY_FILE
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:  # only its owner can read it
            file.write(secrets.token_bytes(KEY_BYTES))
        try:
            os.link(file.name, path)  # whole, or not at all; of two processes one is first
        except FileExistsError:
            pass
        finally:
            Path(file.name).unlink()
    return path.read_bytes()


def check_folder(folder: str) -> None:
    """Refuse a folder that can not be made, or written to, on this machine.

    Raises:
        InputError: It says why not.
    """
    path = as_path(folder, "Folder of the recording", WRITTEN)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"Folder of the recording '{folder}' can not be written: {reason_of(error)}.") from None


def _locked(file: int) -> bool:
    """Lock an open file; whether it is this process that has the lock now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _convert(path: Path) -> None:
    import pyarrow.parquet

    table = read_journal(path.read_bytes())
    if len(table):
        with replacing(path.with_suffix(PARQUET[0]), "wb") as file:
            pyarrow.parquet.write_table(table, file, compression="zstd")
    path.unlink()
