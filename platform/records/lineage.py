# SPDX-License-Identifier: Apache-2.0
"""Where a registered policy comes from: the code, the person, the machine, the job and the world of its training."""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import subprocess

from edgegen.envs.core.world import WorldScenario
from edgegen.platform.engine.unit import digest, plain

IMAGE_VARIABLE, JOB_VARIABLE = "EDGEGEN_IMAGE", "EDGEGEN_JOB"
"""Environment variables that containers and jobs set to say what they are."""
_GIT_TIMEOUT_S = 5.0


def lineage(world: WorldScenario) -> dict[str, str]:
    """Return tags that say where a policy comes from; what is not known here is left out.

    Args:
        world: The world that it was trained in.
    """
    found = {
        "edgegen.version": importlib.metadata.version("edgegen"),
        "edgegen.git_commit": _commit(),
        "edgegen.user": _user(),
        "edgegen.machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "edgegen.image": os.environ.get(IMAGE_VARIABLE, ""),
        "edgegen.job": os.environ.get(JOB_VARIABLE) or os.environ.get("RAY_JOB_ID", ""),
        "edgegen.world": world.name,
        "edgegen.dataset": f"{world.kind}-{digest(plain(world))}",
    }
    return {name: value for name, value in found.items() if value}


def _commit() -> str:
    """Commit of the repository that this process works in, with a mark if something in it was changed."""
    try:
        ask = ["git", "rev-parse", "HEAD"]
        commit = subprocess.run(ask, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True).stdout.strip()
        ask = ["git", "status", "--porcelain", "--untracked-files=no"]
        changed = subprocess.run(ask, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit}-changed" if changed else commit


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user
        return ""
