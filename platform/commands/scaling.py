# SPDX-License-Identifier: Apache-2.0
"""``edgegen scaling``: what more env runners bring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from edgegen.platform.commands.options import (
    AddressOption,
    JsonOption,
    PlotOption,
    SeedOption,
    activity,
    console,
    draw_and_say,
    progress_console,
    refuse_same_output,
    write_then_show,
)
from edgegen.platform.process import prefer_one_thread


def scaling(
    algorithm: Annotated[str, typer.Argument(help="A method.")] = "ladts",
    scenario: Annotated[
        str | None,
        typer.Option(
            "--scenario",
            "-s",
            metavar="NAME",
            help="Shipped scenario, or the path of a .yaml file.  [default: as train]",
        ),
    ] = None,
    preset: Annotated[str, typer.Option(help="Preset of the algorithm.")] = "improved",
    runners: Annotated[
        list[int] | None,
        typer.Option("--runners", min=1, max=1024, help="Number of env runners; repeatable.  [default: 1, 2, 4, 8]"),
    ] = None,
    fragment_length: Annotated[
        int, typer.Option(min=1, max=100_000, help="Slots (ladts) or frames (t2drl) per fragment.")
    ] = 10,
    rounds: Annotated[int, typer.Option(min=1, help="Fragments of every runner per repeat.")] = 30,
    repeats: Annotated[int, typer.Option(min=3, help="Timed repeats, for the intervals.")] = 5,
    asynchronous: Annotated[
        bool, typer.Option(help="Measure asynchronous training, too, and predict how far it scales.")
    ] = True,
    address: AddressOption = None,
    seed: SeedOption = 0,
    plot: PlotOption = None,
    json: JsonOption = None,
) -> None:
    """Measure sampling with 1, 2, 4 and 8 env runners, and what that predicts for a core each."""
    from edgegen.platform.cluster.scaling import measure_scaling, plot_scaling
    from edgegen.platform.files import write_json

    refuse_same_output(json, plot)
    prefer_one_thread()
    notes = progress_console()
    with activity(notes) as say:
        report = measure_scaling(
            algorithm,
            preset,
            scenario,
            runners or (1, 2, 4, 8),
            fragment_length,
            rounds,
            repeats,
            seed,
            address,
            lambda name: say(f"Measuring {name}"),
            asynchronous,
        )
    writes: list[Callable[[], object]] = []
    if json is not None:
        writes.append(lambda: write_json(json, report.to_json()))
    if plot is not None:
        writes.append(lambda: draw_and_say(lambda: plot_scaling(report, plot), notes))

    def show() -> None:
        for table in (report.table(), *(report.asynchronous.tables() if report.asynchronous else ())):
            console().print(table)

    write_then_show(writes, show)
