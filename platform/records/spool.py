# SPDX-License-Identifier: Apache-2.0
"""Requests to a tracking store, on disk until they have been granted: a server that goes away costs none of them.

A spool is a folder. Requests are lines of JSON in files that are only ever appended to, files that are to be stored lie
beside them, as they were when the request was made. A line is on disk when :meth:`Spool.append` returns, so killing the
process loses nothing; whoever opens the folder next goes on. What was granted, but not yet noted as such, is asked for
again: requests are made so that this changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.paths import reason_of
from edgegen.platform.files import write_json, write_text
from edgegen.platform.run_folder import SPOOL_FOLDER, RunFolder, take_again

ABOUT_FILE = "about.json"
REFUSED_FILE = "refused.jsonl"
"""Requests that the store will never grant, such as metrics of a run that somebody deleted."""
_SENT_FILE, _FILES, _LINES = "sent", "files", "*.jsonl"
_SEGMENT_BYTES = 1_000_000
_COPIED_BYTES = 1_000_000  # larger files are checkpoints, which are never written to again: a hard link will do

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """Something that the store is asked for.

    Attributes:
        number: Its number; later ones have larger numbers.
        run: Run that it is about: an id, or the name of one that is still to be made.
        what: What is asked.
        data: Plain values that belong to it.
        segment: Number of the file that holds it.
    """

    number: int
    run: str
    what: str
    data: dict[str, Any]
    segment: int


class Spool:
    """A folder of requests, taken by one process; its methods may be called from several threads.

    Args:
        parent: Folder that it lies in, or will lie in as soon as there is a request.
        about: What the requests are for, as plain values.

    Attributes:
        folder: The spool.
        left: Requests that are not yet granted.
        lost: Requests that could not be written down.
        begun_before: Whether there are requests of an earlier process among them.
    """

    def __init__(self, parent: Path, about: dict[str, Any]) -> None:
        self.folder = parent / SPOOL_FOLDER
        self.left = 0
        self.lost = 0
        self._about = about
        self._on_append: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._taken: RunFolder | None = None
        self._number = 0
        self._segment = 0
        self._writing: IO[str] | None = None
        self._reading: tuple[int, int] = (0, 0)  # segment, and where in it
        self._loaded: dict[int, Request] = {}
        self._undone: Counter[int] = Counter()
        if self.folder.is_dir():
            self._take()
            self._find()
        self.begun_before = self.left > 0

    def listen(self, on_append: Callable[[], None]) -> None:
        """Have somebody told that there is a new request."""
        self._on_append = on_append

    def append(self, run: str, what: str, **data: Any) -> None:
        """Write a request down. A disk that is full costs the request, not the work that it tells of."""
        with self._lock:
            self._append(run, what, data)
        self._on_append()

    def append_file(self, run: str, path: Path, folder: str | None) -> None:
        """Write down that a file, or all of a folder, is to be stored, as it is now.

        Args:
            run: The run.
            path: The file or folder.
            folder: Folder in the store.
        """
        with self._lock:
            kept = Path(_FILES) / f"{self._number:09d}" / path.name
            try:
                self._take()
                _keep(path, self.folder / kept)
            except OSError as error:
                self._lose(error)
                return
            self._append(run, "folder" if path.is_dir() else "file", {"kept": str(kept), "folder": folder})
        self._on_append()

    def pending(self, most: int) -> list[Request]:
        """Requests that are not yet granted, the first so many, in order."""
        with self._lock:
            self._load(most)
            return list(self._loaded.values())

    def granted(self, requests: Sequence[Request]) -> None:
        """Forget requests."""
        with self._lock:
            for request in requests:
                del self._loaded[request.number]
                self.left -= 1
                self._undone[request.segment] -= 1
                if request.what in ("file", "folder"):
                    shutil.rmtree((self.folder / str(request.data["kept"])).parent, ignore_errors=True)
            self._note()

    def refuse(self, request: Request, reason: str) -> None:
        """Put a request aside that will never be granted."""
        line = json.dumps({"run": request.run, "what": request.what, "reason": reason, **request.data})
        with contextlib.suppress(OSError), (self.folder / REFUSED_FILE).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.granted([request])

    def close(self) -> None:
        """Let go of the folder, which is removed if nothing is left in it."""
        with self._lock:
            if self._writing is not None:
                self._writing.close()
                self._writing = None
            if self._taken is None:
                return
            if not self.left and not (self.folder / REFUSED_FILE).exists():
                shutil.rmtree(self.folder, ignore_errors=True)
                self._segment += 1
                self._reading = (self._segment, 0)
            self._taken.__exit__(None, None, None)
            self._taken = None

    def _append(self, run: str, what: str, data: dict[str, Any]) -> None:
        line = json.dumps({"n": self._number, "run": run, "what": what, "data": data}) + "\n"
        try:
            self._take()
            if self._writing is None or self._writing.tell() > _SEGMENT_BYTES:
                if self._writing is not None:
                    self._writing.close()
                    self._segment += 1
                self._writing = self._file(self._segment).open("a", encoding="utf-8")
            self._writing.write(line)
            self._writing.flush()
        except OSError as error:
            self._lose(error)
            return
        self._number += 1
        self.left += 1

    def _lose(self, error: OSError) -> None:
        if not self.lost:
            logger.warning("Records of MLflow are lost: '%s' can not be written: %s", self.folder, reason_of(error))
        self.lost += 1

    def _take(self) -> None:
        if self._taken is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._taken = take_again(self.folder, "record")
        about = self.folder / ABOUT_FILE
        if not about.exists():
            write_json(about, self._about)
        elif (found := json.loads(about.read_text(encoding="utf-8"))) != self._about:
            self._taken.__exit__(None, None, None)
            self._taken = None
            raise InputError(
                f"'{self.folder}' holds records that wait for MLflow at '{found.get('uri')}', but it is "
                f"'{self._about.get('uri')}' now; name the former once more, or remove that folder."
            )

    def _find(self) -> None:
        """Take stock of what an earlier process left."""
        with contextlib.suppress(OSError, ValueError):
            self._number = int((self.folder / _SENT_FILE).read_text(encoding="utf-8"))
        for path in self._segments():
            segment = int(path.stem)
            self._add(path.read_bytes(), segment, self._number)
            self._segment = segment + 1  # the last line of an old file may be torn, so none is written after it
        self._reading = (self._segment, 0)
        self._number = max((number + 1 for number in self._loaded), default=self._number)
        self.left = len(self._loaded)

    def _add(self, data: bytes, segment: int, first: int = 0) -> int:
        """Take requests into memory, of whole lines; returns how many bytes these are."""
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            entry = json.loads(line)
            if entry["n"] >= first:
                self._loaded[entry["n"]] = Request(entry["n"], entry["run"], entry["what"], entry["data"], segment)
                self._undone[segment] += 1
        return len(whole)

    def _segments(self) -> list[Path]:
        return sorted(path for path in self.folder.glob(_LINES) if path.stem.isdigit())

    def _file(self, segment: int) -> Path:
        return self.folder / f"{segment:09d}.jsonl"

    def _load(self, most: int) -> None:
        """Read lines until so many requests are in memory."""
        while len(self._loaded) < most:
            segment, start = self._reading
            data = b""
            with contextlib.suppress(FileNotFoundError), self._file(segment).open("rb") as file:
                file.seek(start)
                data = file.read(2 * _SEGMENT_BYTES)
            read = self._add(data, segment)
            if not read and segment == self._segment:
                return
            self._reading = (segment, start + read) if read else (segment + 1, 0)

    def _note(self) -> None:
        """Say how far everything is granted, and remove files that are."""
        write_text(self.folder / _SENT_FILE, str(min(self._loaded, default=self._number - self.left)))
        for path in self._segments():
            segment = int(path.stem)
            if segment < self._reading[0] and not self._undone[segment]:
                path.unlink(missing_ok=True)


def _keep(path: Path, target: Path) -> None:
    """Keep a file or folder as it is now."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        spools = shutil.ignore_patterns(SPOOL_FOLDER)  # a run that is stored as a whole does not hold its own copy
        shutil.copytree(path, target, ignore=spools, copy_function=_keep_file, dirs_exist_ok=True)
    else:
        _keep_file(path, target)


def _keep_file(source: str | Path, target: str | Path) -> None:
    if Path(source).stat().st_size > _COPIED_BYTES:
        with contextlib.suppress(OSError):  # no links there, or from one file system to another
            os.link(source, target)
            return
    shutil.copyfile(source, target)
