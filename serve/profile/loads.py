# SPDX-License-Identifier: Apache-2.0
"""How long a model takes to load: from the disk, with its files in the cache, and from the host to a GPU.

A file that was read lies in the operating system's cache, so a second load says nothing about the first one after a
start. Before a cold load the files of the model are put out of that cache (`posix_fadvise`, on Linux); libraries stay
imported, because an edge imports them once. What the disk and a virtual machine's host keep by themselves is not seen.
Times are wall time, less what the thread waited for a core that others had (where the system tells, as Linux does).
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgegen.envs.core.device import finish, is_gpu
from edgegen.serve.zoo.catalogue import entry_of
from edgegen.serve.zoo.loading import INDEX_FILE, model_folder

_SCHEDULED = Path("/proc/thread-self/schedstat")


@dataclass(frozen=True)
class Loads:
    """Measured loads of one model, s.

    Attributes:
        first_s: The first one in the process, the modules of its parts included.
        cold_s: With none of its files in the cache; none where the system can not put them out.
        warm_s: With all of its files in the cache.
        moved_s: From the host's memory to a GPU, where the model is on one.
    """

    first_s: float
    cold_s: tuple[float, ...]
    warm_s: tuple[float, ...]
    moved_s: tuple[float, ...] = ()


def model_files(model: str) -> list[Path]:
    """Return the files of a model; those in the hub's cache for a hub id, none where they can not be found."""
    folder, entry = model_folder(model), entry_of(model)
    if folder is None:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            index = try_to_load_from_cache(entry.hub if entry else model, INDEX_FILE)
        except HFValidationError:
            return []
        if not isinstance(index, str):
            return []
        folder = Path(index).parent
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def forget(files: Sequence[Path]) -> bool:
    """Put files out of the operating system's cache; return whether that was possible.

    Pages that a process has mapped stay, so nothing may hold the model.
    """
    if not files or not hasattr(os, "posix_fadvise"):
        return False
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # pages that are not written yet would stay
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    return True


def measure_loads(load: Callable[[], Any], files: Sequence[Path], device: str, count: int) -> tuple[Loads, Any]:
    """Load a model again and again.

    Args:
        load: Returns a pipeline on its device.
        files: Its files.
        device: A torch device.
        count: Loads of every kind.

    Returns:
        The times, and the pipeline of the last load.
    """
    first_s, pipeline = _timed(load, device)
    del pipeline
    cold, warm = [], []
    for _ in range(count):
        gc.collect()  # so that two copies never lie in memory
        if not forget(files):
            break
        seconds, pipeline = _timed(load, device)
        del pipeline
        cold.append(seconds)
    for left in reversed(range(count)):
        gc.collect()
        seconds, pipeline = _timed(load, device)
        warm.append(seconds)
        if left:
            del pipeline
    moved = []
    for _ in range(count if is_gpu(device) else 0):
        pipeline.to("cpu")
        seconds, pipeline = _timed(partial(pipeline.to, device), device)
        moved.append(seconds)
    return Loads(first_s, tuple(cold), tuple(warm), tuple(moved)), pipeline


def _timed(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    finish(device)
    begun, waited_s = time.perf_counter(), _waited_s()
    made = work()
    finish(device)
    return time.perf_counter() - begun - (_waited_s() - waited_s), made


def _waited_s() -> float:
    """Time that this thread could have run but had no core, s; 0 where the system does not tell."""
    return int(_SCHEDULED.read_text(encoding="ascii").split()[1]) / 1e9 if _SCHEDULED.is_file() else 0.0
