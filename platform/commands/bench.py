"""``edgegen bench``: how fast things are on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from edgegen.platform.commands.options import (
    JsonOption,
    SeedOption,
    activity,
    console,
    progress_console,
    write_then_show,
)
from edgegen.platform.process import prefer_one_thread


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="A minute instead of several; noisier.")] = False,
    seed: SeedOption = 0,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="A torch device, e.g. cuda:0.")] = "cpu",
    json: JsonOption = None,
) -> None:
    """Measure simulator, rules, policy and training."""
    from edgegen.envs.core.device import check_device
    from edgegen.platform.bench import suite
    from edgegen.platform.files import write_json

    check_device(device)
    prefer_one_thread()
    with activity(progress_console()) as say:
        report = suite.run_bench(quick, seed, on_measurement=lambda name: say(f"Measuring {name}"), device=device)
    writes = [] if json is None else [lambda: write_json(json, report.to_json())]
    write_then_show(writes, lambda: console().print(report.table()))
