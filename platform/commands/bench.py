# SPDX-License-Identifier: Apache-2.0
"""``edgegen bench``: how fast things are on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgegen.platform.commands.options import (
    JsonOption,
    SeedOption,
    activity,
    console,
    input_file,
    progress_console,
    write_then_show,
)
from edgegen.platform.process import prefer_one_thread


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="A minute instead of several; noisier.")] = False,
    seed: SeedOption = 0,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="A torch device, e.g. cuda:0.")] = "cpu",
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=str,
            callback=input_file("report", ".json"),
            help="Report that --json wrote earlier; say how much faster everything is than then.",
        ),
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="Also play the same world with the runners of other libraries.")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Measure simulator, rules, policy and training, and how far from what this machine could do they are."""
    from edgegen.envs.core.device import check_device
    from edgegen.platform.bench import suite
    from edgegen.platform.bench.earlier import read_earlier
    from edgegen.platform.files import write_json

    check_device(device)
    earlier = None if compare is None else read_earlier(compare)
    prefer_one_thread()
    with activity(progress_console()) as say:
        report = suite.run_bench(
            quick, seed, on_measurement=lambda name: say(f"Measuring {name}"), device=device, with_peers=peers
        )
    writes = [] if json is None else [lambda: write_json(json, report.to_json())]

    def show() -> None:
        console().print(report.table(earlier))
        if report.peers:
            console().print(report.peers_table())

    write_then_show(writes, show)
