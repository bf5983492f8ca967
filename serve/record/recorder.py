# SPDX-License-Identifier: Apache-2.0
"""The recorder of a gateway: requests only join a queue, and a thread of its own writes them down.

The queue is bounded: if the disk is too slow or full, rows are lost and counted, and no request waits for it. What has
been written twice a second outlives the process (:mod:`edgegen.serve.record.journal`).
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.paths import reason_of
from edgegen.serve.control.admission import Terms
from edgegen.serve.control.jobs import Job
from edgegen.serve.control.live_world import Task
from edgegen.serve.record.config import RecordConfig
from edgegen.serve.record.journal import Journal, prompt_key, prune, recover
from edgegen.serve.record.row import Made, Noted, failure_of

logger = logging.getLogger(__name__)

WRITE_S = 0.5
"""Time between two writes, s: with the write itself well within the second that may be lost."""
MOST_WAITING = 20_000
"""Rows that wait to be written; what comes beyond that is lost."""
RECENT = 500
"""Requests that are kept in memory for people who look."""
HASH_BYTES = 16


class Recorder:
    """Notes what becomes of every request of a gateway.

    Args:
        config: Where to; only the latest requests are kept, in memory, if None.
        clock: Monotonic time, s, in which arrivals are given.

    Attributes:
        noted: Requests that have been noted.
        written: Rows that are on disk.
        lost: Rows that could not be written.
        trouble: Why not, most recently; None if the latest were.
    """

    def __init__(self, config: RecordConfig | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.noted, self.written, self.lost = 0, 0, 0
        self.trouble: str | None = None
        self._config = config
        self._folder = None if config is None else Path(config.folder).expanduser()
        self._clock = clock
        self._epoch_s = time.time() - clock()
        self._recent: deque[Noted] = deque(maxlen=RECENT)
        self._waiting: deque[Noted] = deque()
        self._journal: Journal | None = None
        self._key = b""
        self._stop = threading.Event()
        self._writer: threading.Thread | None = None
        self._closer: threading.Thread | None = None

    def note(
        self,
        task: Task,
        job: Job,
        terms: Terms,
        arrived: float,
        policy: str,
        made: Made | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Note a request that has come to its end; takes microseconds and never fails.

        Args:
            task: The request as policies see it.
            job: The request as edges see it.
            terms: What its client may expect.
            arrived: When it came, by the clock of the recorder.
            policy: The policy that decided, or would have.
            made: What was made, if anything.
            error: What happened else.
        """
        total_s = self._clock() - arrived
        failure = None if error is None else failure_of(error)
        noted = Noted(task, job, terms, self._epoch_s + arrived, total_s, policy, made, failure)
        self._recent.append(noted)
        self.noted += 1
        if self._folder is None:
            return
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(noted)
        else:
            self.lost += 1

    def recent(self, most: int = RECENT) -> list[dict[str, Any]]:
        """The latest requests, newest first, as rows by column; prompts as the config allows, and none without one."""
        noted = list(self._recent)[::-1][:most]
        return [one.row(self._shown) for one in noted]

    def since(self, number: int, most: int = RECENT) -> list[tuple[int, Noted]]:
        """The latest requests after one, each with its number, oldest first.

        Args:
            number: Of that one; the first has 1.
            most: Of how many at most.
        """
        count = min(self.noted - number, most, len(self._recent))
        latest = [self._recent[-back] for back in range(count, 0, -1)]
        return list(enumerate(latest, self.noted - count + 1))

    @property
    def shows_prompts(self) -> bool:
        """Whether prompts are kept as they are, for people to read."""
        return self._config is not None and self._config.prompts == "text"

    def state(self) -> dict[str, Any] | None:
        """How the recording goes, for those who watch; None if nothing is written."""
        if self._config is None:
            return None
        return {"folder": self._config.folder, "rows": self.written, "lost": self.lost, "trouble": self.trouble}

    def start(self) -> None:
        """Begin to write, and make Parquet files of what processes that died have left behind."""
        if self._folder is not None and self._writer is None:
            self._writer = threading.Thread(target=self._run, name="recorder", daemon=True)
            self._writer.start()

    def stop(self) -> None:
        """Write what is left, and make a Parquet file of it."""
        if self._writer is not None:
            self._stop.set()
            self._writer.join()
            self._writer = None

    def _run(self) -> None:
        assert self._folder is not None
        recover(self._folder)
        while not self._stop.wait(WRITE_S):
            self._write()
            self._rotate()
        self._write()
        if self._closer is not None:
            self._closer.join()
        if self._journal is not None:
            self._close(self._journal)

    def _write(self) -> None:
        rows = list(self._waiting)
        if not rows:
            return
        assert self._folder is not None
        assert self._config is not None
        try:
            if self._config.prompts == "hash" and not self._key:
                self._key = prompt_key(self._folder)
            if self._journal is None or self._journal.is_gone:
                self._journal = Journal(self._folder)
            self._journal.write([noted.row(self._shown) for noted in rows])
        except OSError as error:  # perhaps there is room later
            self._tell(f"Requests can not be recorded: {reason_of(error)}.")
            return
        for _ in rows:
            self._waiting.popleft()
        self.written += len(rows)
        self.trouble = None

    def _rotate(self) -> None:
        assert self._config is not None
        journal = self._journal
        if journal is None or (self._closer is not None and self._closer.is_alive()):
            return
        if journal.rows >= self._config.file_rows or time.monotonic() - journal.begun_s >= self._config.file_s:
            # Apart, because it takes longer than rows may wait.
            self._closer = threading.Thread(target=self._close, args=(journal,), name="recorder-closer", daemon=True)
            self._closer.start()
            self._journal = None

    def _close(self, journal: Journal) -> None:
        assert self._folder is not None
        assert self._config is not None
        try:
            journal.close()
            if self._config.keep_mb is not None:
                prune(self._folder, self._config.keep_mb)
        except (InputError, OSError) as error:
            self._tell(f"The journal '{journal.path}' stays as it is: {error}")

    def _tell(self, trouble: str) -> None:
        if trouble != self.trouble:
            logger.warning("%s", trouble)
        self.trouble = trouble

    def _shown(self, prompt: str) -> str | None:
        kept = "none" if self._config is None else self._config.prompts
        if kept == "hash":
            digest = hashlib.blake2b(prompt.encode(), key=self._key, digest_size=HASH_BYTES) if self._key else None
            return None if digest is None else digest.hexdigest()
        return prompt if kept == "text" else None
