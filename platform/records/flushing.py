# SPDX-License-Identifier: Apache-2.0
"""Records that runs left to be sent to MLflow: finding them, and sending them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from edgegen.envs.core.errors import InputError
from edgegen.platform.records.tracking import Store
from edgegen.platform.run_folder import SPOOL_FOLDER

_HUGE = ("checkpoint", "units", "search")
"""How names of folders begin in which no run lies, but a great many files."""


def waiting(folder: Path) -> Iterator[Path]:
    """Folders of runs, the given one or some below it, in which records wait."""
    for path, below, _ in os.walk(folder):
        if SPOOL_FOLDER in below:
            yield Path(path)
        below[:] = sorted(name for name in below if not name.startswith((".", *_HUGE)))


def flush(folder: Path, tell: Callable[[str], None]) -> bool:
    """Send what waits in a folder and below it; what a running command is sending itself is left to it.

    Args:
        folder: Where to look.
        tell: Is told what became of each run.

    Returns:
        Whether nothing waits any more.

    Raises:
        InputError: If MLflow can not be used.
    """
    complete = True
    for run in list(waiting(folder)):
        store = Store(run)
        try:
            count = store.begin()
        except InputError as error:
            tell(str(error))
            complete = False
        else:
            tell(f"{run}: {count} records sent")
        finally:
            store.close()
    return complete
