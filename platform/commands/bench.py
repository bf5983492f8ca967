"""``edgegen bench``: how fast things are on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from edgegen.platform.commands.options import JsonOption, SeedOption, console, progress_console
from edgegen.platform.process import prefer_one_thread


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="A minute instead of several; noisier.")] = False,
    seed: SeedOption = 0,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="A torch device, e.g. cuda:0.")] = "cpu",
    json: JsonOption = None,
) -> None:
    """Measure simulator, rules, policy and training."""
    from edgegen.envs.device import check_device
    from edgegen.platform import bench as suite
    from edgegen.platform.files import check_writable_file, write_json

    if json is not None:
        check_writable_file(json)
    check_device(device)
    prefer_one_thread()
    with progress_console().status("") as status:
        report = suite.run_bench(
            quick, seed, on_measurement=lambda name: status.update(f"Measuring {name}"), device=device
        )
    console().print(report.table())
    if json is not None:
        write_json(json, report.to_json())
