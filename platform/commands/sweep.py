"""``edgegen sweep``: a search for good settings, with a final training over seeds and a registered policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgegen.platform.commands.options import AddressOption, JsonOption, console, progress_console
from edgegen.platform.overrides import parse_overrides

RUNS = Path("runs")


def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What to sweep; see tune_configs/.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the sweep.  [default: runs/sweep-NAME]")
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
    tracking: Annotated[bool, typer.Option(help="Record the sweep in MLflow and register its policy.")] = True,
) -> None:
    """Search for good settings; Ctrl-C stops, --resume continues, and nothing is trained twice."""
    from edgegen.platform.files import check_writable_file, check_writable_folder, write_json

    if json is not None:
        check_writable_file(json)
    from edgegen.platform.sweeps.study import read_sweep

    study = read_sweep(file, parse_overrides(settings or []))
    folder = out if out is not None else RUNS / f"sweep-{study.spec.name}"
    check_writable_folder(folder)
    from edgegen.algorithms.registered import shown, tracking_uri
    from edgegen.platform.sweep import REPORT_FOLDER, SweepRequest, run_sweep
    from edgegen.platform.sweeps.report import summary

    notes = progress_console()
    try:
        outcome = run_sweep(SweepRequest(study, folder, resume, address, tracking), notes)
    except KeyboardInterrupt:
        again = " ".join(["edgegen sweep", str(file), *(f"--set {text}" for text in settings or [])])
        notes.print(f"Stopped. Continue: {again} --resume{f' --out {out}' if out else ''}", soft_wrap=True)
        raise
    out_console = console()
    out_console.print(outcome.comparison.table())
    for line in summary(outcome):
        out_console.print(line, soft_wrap=True)
    report = folder / REPORT_FOLDER
    notes.print(f"Report:  {report / 'report.md'}", soft_wrap=True)
    if outcome.registration is not None:
        registered = outcome.registration
        notes.print(f"Model:   {registered.uri} (version {registered.version}). {registered.reason}", soft_wrap=True)
        notes.print(f"MLflow:  {shown(tracking_uri())}", soft_wrap=True)
    if json is not None:
        write_json(json, read_report(report))
    typer.echo(str(folder))


def read_report(folder: Path) -> object:
    """Read the report of a sweep as plain values."""
    from edgegen.platform.sweeps.trial import read_json

    return read_json(folder / "report.json")
