# SPDX-License-Identifier: Apache-2.0
"""``edgegen demo``: everything once, from training to pictures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from edgegen.platform.commands.options import SeedOption, console, output_folder, progress_console
from edgegen.platform.process import prefer_one_thread

EPISODES = 320
SERVICE_EPISODES = 512
TRIALS = 100
EVALUATION_EPISODES = 30
SEQUENCES = 2


def demo(
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=str, callback=output_folder, help="Folder for all output.  [default: runs/demo-TIME]"
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service up at the end, until Ctrl-C.")] = False,
    with_service: Annotated[bool, typer.Option("--serve/--no-serve", help="Include the live service.")] = True,
    quick: Annotated[
        bool, typer.Option("--quick", help="A tenth of the training: shows the parts, not the result.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the service.  [default: any free one]")
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Train, compare, serve real pictures; under ten minutes."""
    prefer_one_thread()
    from edgegen.platform.runs.demo import DemoRequest, run_demo

    share = 10 if quick else 1
    request = DemoRequest(
        out=out if out is not None else Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S"),
        episodes=EPISODES // share,
        service_episodes=SERVICE_EPISODES // share,
        evaluation_episodes=EVALUATION_EPISODES if not quick else 5,
        trials=TRIALS // share,
        sequences=SEQUENCES if not quick else 1,
        seed=seed,
        serve=with_service,
        keep=keep,
        port=port,
        numbered=out is None,
    )
    run_demo(request, console(), progress_console())
