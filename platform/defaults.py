# SPDX-License-Identifier: Apache-2.0
"""What commands and the Python interface take where nothing is said, and what they call runs and policies."""

from __future__ import annotations

from pathlib import Path

from edgegen.envs.core.paths import as_path

RUNS = Path("runs")
"""Where runs go unless told otherwise."""
REPORTS = Path("docs/results")
"""Where reports of studies go."""
TRAINING_EPISODES = 500
EVALUATION_EPISODES = 30
TUNING_TRIALS = 200
TUNING_EPISODES = 16
"""Training episodes that every trial of a tuning plays."""

_INNER_FOLDERS = ("policy",)  # a run's own sub-folders say nothing about the run
_CHECKPOINT = "checkpoint-"


def slug(name: str) -> str:
    """A name as part of a folder's name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)


def folder_label(path: str) -> str:
    """Return what to call a trained policy: the run's name, with the checkpoint's where one was chosen."""
    folder = as_path(path, "Policy").resolve()
    if folder.name in _INNER_FOLDERS and folder.parent.name:
        folder = folder.parent
    if folder.name.startswith(_CHECKPOINT) and folder.parent.name:
        return f"{folder.parent.name}/{folder.name}"
    return folder.name or str(folder)
