# SPDX-License-Identifier: Apache-2.0
"""``edgegen sweep``: a search for good settings, with a final training over seeds and a registered policy."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from edgegen.platform.commands.options import (
    AddressOption,
    JsonOption,
    console,
    input_file,
    output_folder,
    progress_console,
    run_folder,
    write_then_show,
)
from edgegen.platform.defaults import RUNS
from edgegen.platform.overrides import parse_overrides


def sweep(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", parser=str, callback=input_file("sweep", ".yaml"), help="What to sweep; see tune_configs/."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=str, callback=output_folder, help="Folder of the sweep.  [default: runs/sweep-NAME]"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the sweep in its folder; begin it if there is none.")
    ] = False,
    address: AddressOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a field, e.g. budget.trials=8; repeatable."),
    ] = None,
    json: JsonOption = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="Object store for the checkpoints of trials, such as s3://BUCKET/FOLDER.  [default: DIR]",
        ),
    ] = None,
    tracking: Annotated[bool, typer.Option(help="Record the sweep in MLflow and register its policy.")] = True,
) -> None:
    """Search for good settings; Ctrl-C stops, --resume continues, and nothing is trained twice."""
    from edgegen.platform.files import check_writable_folder, write_json
    from edgegen.platform.sweeps.checked import read_sweep

    checked = read_sweep(file, parse_overrides(settings or []))
    folder = out if out is not None else RUNS / f"sweep-{checked.spec.name}"
    check_writable_folder(folder)
    from edgegen.algorithms.core.registered import how_to_look, tracking_uri
    from edgegen.platform.engine.doing import read_json
    from edgegen.platform.sweeps.report import summary
    from edgegen.platform.sweeps.run import REPORT_FOLDER, SweepRequest, run_sweep

    notes = progress_console()
    try:
        outcome = run_sweep(SweepRequest(checked, folder, resume, address, tracking, storage), notes)
    except KeyboardInterrupt:
        changes = [part for text in settings or [] for part in ("--set", text)]
        place = [] if out is None else ["--out", str(out)]
        again = shlex.join(["edgegen", "sweep", str(file), *changes, "--resume", *place])
        notes.print(f"Stopped. Continue: {again}", soft_wrap=True)
        raise
    report = folder / REPORT_FOLDER

    def show() -> None:
        shown_on = console()
        shown_on.print(outcome.comparison.table())
        for line in summary(outcome):
            shown_on.print(line, soft_wrap=True)
        notes.print(f"Report:  {report / 'report.md'}", soft_wrap=True)
        if outcome.registration is not None:
            registered = outcome.registration
            model = f"{registered.uri} (version {registered.version}). {registered.reason}"
            notes.print(f"Model:   {model}", soft_wrap=True)
            notes.print(f"MLflow:  {how_to_look(tracking_uri())}", soft_wrap=True)
        typer.echo(str(folder))

    write_then_show([] if json is None else [lambda: write_json(json, read_json(report / "report.json"))], show)


def sweep_status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", parser=str, callback=run_folder, help="Folder of a sweep.")],
) -> None:
    """Show how a sweep stands that another terminal, or machine, runs: edgegen sweep status DIR does the same."""
    import time

    from edgegen.platform.sweeps.status import SweepStatus

    shown_on = console()
    status = SweepStatus(folder, shown_on)
    if not shown_on.is_interactive or status.over:
        shown_on.print(status.render())
        return
    with status.shown():
        while not status.over:
            time.sleep(1.0)
