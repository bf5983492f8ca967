# SPDX-License-Identifier: Apache-2.0
"""A folder that one process takes for its work, so that two started side by side never write into the same one."""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.paths import reason_of
from edgegen.platform.files import check_writable_folder

LOCK_FILE = ".lock"
"""In a folder that was taken: locked while the process that took it lives, and left behind after that."""
SPOOL_FOLDER = ".tracking"
"""In a run's folder: records that wait for MLflow."""
_HALF_WRITTEN = (".part", ".tmp")

logger = logging.getLogger(__name__)


class RunFolder:
    """A folder that this process has taken, until the end of a block; nobody else can take it meanwhile.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, made: bool, lock: FileLock | None) -> None:
        self.path = path
        self._made = made
        self._lock = lock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.release()

    def give_back(self, files: Collection[str]) -> None:
        """Leave the folder as it was found, because nothing has come of the work.

        Args:
            files: Names of the files that only say what the work would have been.
        """
        with contextlib.suppress(OSError):
            for path in list(self.path.iterdir()):
                if path.name in files or _is_trace(path):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            if self._made:
                self.path.rmdir()  # unless somebody put something there


def take_new(folder: Path, what: str, numbered: bool = False) -> RunFolder:
    """Take a folder for new work; what it may hold is the caller's to judge.

    Args:
        folder: The folder; made if it does not exist.
        what: What it is taken for, such as ``run``, for the complaint.
        numbered: Whether to take the name with the first free number behind it if there is anything of that name.

    Raises:
        InputError: If it can not be made, or somebody is at work in it.
    """
    folder = check_writable_folder(folder.parent) / folder.name if numbered else check_writable_folder(folder)
    for candidate in _numbered(folder) if numbered else (folder,):
        try:
            candidate.parent.mkdir(parents=True, exist_ok=True)
            candidate.mkdir()  # a single step: of two that try, one succeeds
            made = True
        except FileExistsError:
            if numbered:
                continue
            made = False
        except OSError as error:
            raise InputError(f"Output folder '{candidate}' can not be written: {reason_of(error)}.") from None
        try:
            return RunFolder(candidate, made, _lock(candidate))
        except Timeout:
            if numbered:
                continue
            raise InputError(
                f"'{candidate}' holds a {what} already, which another process is working on; wait until it has ended, "
                "or choose another folder."
            ) from None
    raise AssertionError("numbers have no end")


def take_again(folder: Path, what: str) -> RunFolder:
    """Take a folder to continue what it holds.

    Raises:
        InputError: If it can not be written, or somebody is at work in it.
    """
    folder = check_writable_folder(folder)
    try:
        return RunFolder(folder, False, _lock(folder))
    except Timeout:
        raise InputError(
            f"Another process is working on the {what} in '{folder}'; wait until it has ended, or stop it."
        ) from None


def is_abandoned(folder: Path, files: Collection[str]) -> bool:
    """Whether a folder was taken and holds nothing but some files, as if killed before anything came of the work.

    Whoever took it may yet be alive: taking it tells.
    """
    return (folder / LOCK_FILE).exists() and all(path.name in files or _is_trace(path) for path in folder.iterdir())


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    yield from (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))


def _lock(folder: Path) -> FileLock | None:
    lock = FileLock(folder / LOCK_FILE, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:  # some network file systems have no locks
        logger.warning("'%s' can not be locked (%s): do not start two commands in it.", folder, error)
        return None
    return lock


def _is_trace(path: Path) -> bool:
    """Whether a file was left by taking the folder, or by writing something that did not become whole."""
    return path.name in (LOCK_FILE, SPOOL_FOLDER) or (path.name.startswith(".") and path.name.endswith(_HALF_WRITTEN))
