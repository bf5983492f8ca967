# SPDX-License-Identifier: Apache-2.0
"""The private parts of Ray's core that are used here, apart from those of RLlib, which not every process imports."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def groups_of_their_own() -> Iterator[None]:
    """Start Ray's processes in process groups of their own, as Ray itself does on Windows.

    ``timeout``, schedulers and shells send signals to whole groups. This process saves its work before it ends, and
    needs the others until then; they end with it in any case, where the kernel sees to that.
    """
    from ray._private import services, utils

    popen = services.ConsolePopen
    if sys.platform == "win32" or not utils.detect_fate_sharing_support():
        yield
        return
    services.ConsolePopen = functools.partial(popen, process_group=0)
    try:
        yield
    finally:
        services.ConsolePopen = popen


def address_here() -> str | None:
    """Return the address of the cluster that runs on this machine, if there is one."""
    from ray._private.services import canonicalize_bootstrap_address

    found: str | None = canonicalize_bootstrap_address("auto")
    return found


def actors() -> list[dict[str, Any]]:
    """Return what the cluster says of its actors."""
    from ray._private import state

    return list(state.actors().values())


def write_state_when_asked(controller: Any) -> None:
    """Keep Tune from writing the state of an experiment whenever a trial has written so many checkpoints.

    It does so that its state never names a checkpoint that was dropped; at a thousand trials that is megabytes with
    every other report. Whoever calls this has to keep track of the newest checkpoints some other way.

    Args:
        controller: Tune's controller, as schedulers are given it.
    """
    controller._checkpoint_manager._sync_every_n_trial_checkpoints = None
