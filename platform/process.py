# SPDX-License-Identifier: Apache-2.0
"""Settings of the process that a command runs in."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
from typing import Any, NoReturn


def prefer_one_thread() -> None:
    """Let torch use one thread in this process, unless ``OMP_NUM_THREADS`` asks for another number.

    The tensors here are small: starting and waiting for threads costs more than they save, several times more when
    other programs keep a core busy. It also makes results independent of the number of cores.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    import torch

    torch.set_num_threads(1)


def leave(code: int) -> NoReturn:
    """End this process without taking the interpreter apart: with torch in it, that takes as long as a short command.

    All that Python promises happens before: threads that are no daemons are waited for, whatever was registered to be
    called at the end is called, last come first, and texts reach their streams.

    Args:
        code: Exit code.
    """
    end_threads: Any = getattr(threading, "_shutdown")  # noqa: B009  # what the interpreter does first at its end
    end_threads()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def quiet_diffusers() -> None:
    """Keep diffusers and transformers from drawing progress bars and announcing missing extras while models load."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def quiet_libraries() -> None:
    """Keep libraries from announcing what is normal in the middle of a command's own display.

    Named loggers, because both libraries set the levels of their root loggers when they are imported.
    """
    for chatty in ("ray.rllib.algorithms.algorithm_config", "mlflow.store.db.utils"):
        logging.getLogger(chatty).setLevel(logging.ERROR)


def quiet_ray() -> None:
    """Keep Ray from announcing what is normal where it has no session, which would be told so."""
    import ray

    logging.getLogger(ray.__name__).setLevel(logging.ERROR)
