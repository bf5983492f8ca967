# SPDX-License-Identifier: Apache-2.0
"""``edgegen track``: what waits for MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgegen.platform.commands.options import progress_console, run_folder
from edgegen.platform.defaults import RUNS

track = typer.Typer(help="Records of runs that MLflow has not yet.")


@track.callback()
def _root() -> None:  # a group of one command would be that command itself
    pass


@track.command()
def flush(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", parser=str, callback=run_folder, help="A run, or a folder with runs."),
    ] = RUNS,
) -> None:
    """Send what runs could not send because MLflow was away when they ended."""
    from edgegen.envs.core.errors import InputError
    from edgegen.platform.records import flushing

    if folder != RUNS and not folder.is_dir():
        raise InputError(f"There is no folder '{folder}' with runs.")
    notes = progress_console()
    told: list[str] = []

    def tell(sentence: str) -> None:
        told.append(sentence)
        notes.print(sentence, soft_wrap=True)

    if not flushing.flush(folder, tell):
        raise InputError("Some records wait still; they are kept where they are.")
    if not told:
        notes.print(f"Nothing waits in {folder}.", soft_wrap=True)
