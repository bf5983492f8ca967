# SPDX-License-Identifier: Apache-2.0
"""``edgegen replay``: recorded tasks through the simulator."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgegen.platform.commands.options import (
    JsonOption,
    ScenarioOption,
    SeedOption,
    SetOption,
    console,
    input_file,
    output_file,
    policy_from,
    scenario_from,
    write_then_show,
)


def replay(
    trace: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            parser=str,
            callback=input_file("trace", ".csv"),
            help="CSV with slot, edge, index, size_mbit, workload_gcycles, result_mbit.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            parser=str,
            callback=output_file,
            help="CSV to write: the trace with the parts of every delay.",
        ),
    ],
    scenario: ScenarioOption = "demo",
    backlog: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=str,
            callback=output_file,
            help="Also write the backlog of every server after every slot.",
        ),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="POLICY", help="Who decides where the trace does not say.")
    ] = None,
    redecide: Annotated[
        bool, typer.Option("--redecide", help="Let --policy decide even where the trace says.")
    ] = False,
    greedy: Annotated[
        bool, typer.Option("--greedy/--sampled", help="Most likely or sampled actions of a trained policy.")
    ] = False,
    seed: SeedOption = 0,
    settings: SetOption = None,
    json: JsonOption = None,
) -> None:
    """Run recorded tasks through a scenario: what became of them, or would have under another policy."""
    from rich.box import SIMPLE

    from edgegen.platform.files import refuse_same_file, write_json
    from edgegen.platform.runs import replay as replays
    from edgegen.platform.screen import PlainTable

    outputs = {"the output": out, "the backlog output": backlog, "the machine-readable result": json}
    refuse_same_file({"the trace": trace, **outputs})
    world = scenario_from(scenario, settings)
    decider = policy_from(policy, world, seed) if policy is not None else None
    summary = replays.replay(world, trace, out, backlog, decider, redecide, explore=not greedy)
    table = PlainTable(title=f"{trace} on {summary.scenario}", show_header=False, box=SIMPLE)
    for name, value in asdict(summary).items():
        table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    data = {"format": "edgegen-replay-1", **asdict(summary), "seed": seed}
    write_then_show([] if json is None else [lambda: write_json(json, data)], lambda: console().print(table))
