# SPDX-License-Identifier: Apache-2.0
"""``edgegen reproduce``: every experiment of a study, with data, figures and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgegen.platform.commands.options import AddressOption, console, output_folder, progress_console
from edgegen.platform.defaults import REPORTS, RUNS


def reproduce(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="ladts, t2drl, t2drl-ablation, fleet, or the path of a .yaml file.")
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="Minutes instead of a night: fewer seeds and episodes.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="EXPERIMENT", help="Run this experiment only; repeatable.")
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Make figures and report of the saved data, and run nothing.")
    ] = False,
    jobs: Annotated[int | None, typer.Option(min=1, max=1024, help="Units at a time.  [default: one per core]")] = None,
    address: AddressOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=str,
            callback=output_folder,
            help=f"Folder of the report, its data and figures.  [default: {REPORTS.as_posix()}]",
        ),
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=str,
            callback=output_folder,
            help="Folder of the trainings.  [default: runs/reproduce-STUDY]",
        ),
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="List the experiments and run nothing.")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Write figures as .pdf, too, beside .png and .svg.")] = False,
    tracking: Annotated[bool, typer.Option(help="Record the study in MLflow.")] = True,
) -> None:
    """Train, compare, draw and report a study; run it again to go on where it stopped."""
    from edgegen.platform.studies.files import read_study, study_file
    from edgegen.platform.studies.plan import make_plan
    from edgegen.platform.studies.spec import FULL, QUICK

    plan = make_plan(read_study(study), QUICK if quick else FULL, only or [], study_file(study))
    if list_only:
        for experiment in plan.experiments:
            units = {identity for cell in experiment.cells for identity in cell.units}
            trainings = sum(plan.units[identity].kind == "training" for identity in units)
            line = f"{experiment.experiment.name:24} {trainings:4} trainings  {experiment.experiment.title}"
            console().print(line, soft_wrap=True)
        return
    from edgegen.platform.studies.run import ReproduceRequest, summary
    from edgegen.platform.studies.run import reproduce as run

    notes = progress_console()
    folder = runs if runs is not None else RUNS / f"reproduce-{plan.spec.name}"
    try:
        outcome = run(
            ReproduceRequest(plan, folder, out or REPORTS, address, jobs, tracking, report_only, pdf, study), notes
        )
    except KeyboardInterrupt:
        notes.print("Stopped. Run the same command again to go on.")
        raise
    for line in summary(outcome):
        notes.print(line, soft_wrap=True)
    if outcome.report is not None:
        typer.echo(str(outcome.report))
    if outcome.failed:
        raise typer.Exit(1)
