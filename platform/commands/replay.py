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
    policy_from,
    scenario_from,
)


def replay(
    trace: Annotated[
        Path,
        typer.Option(metavar="FILE", help="CSV with slot, edge, index, size_mbit, workload_gcycles, result_mbit."),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="CSV to write: the trace with the parts of every delay.")],
    scenario: ScenarioOption = "demo",
    backlog: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the backlog of every server after every slot.")
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
    from rich.table import Table

    from edgegen.platform import replay as replays
    from edgegen.platform.files import check_writable_file, refuse_same_file, write_json

    outputs = {"the output": out, "the backlog output": backlog, "the machine-readable result": json}
    refuse_same_file({"the trace": trace, **outputs})
    for path in outputs.values():
        if path is not None and not path.exists():
            check_writable_file(path)
    world = scenario_from(scenario, settings)
    decider = policy_from(policy, world, seed) if policy is not None else None
    summary = replays.replay(world, trace, out, backlog, decider, redecide, explore=not greedy)
    table = Table(title=f"{trace} on {summary.scenario}", title_justify="left", show_header=False, box=SIMPLE)
    for name, value in asdict(summary).items():
        table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    console().print(table)
    if json is not None:
        write_json(json, {"format": "edgegen-replay-1", **asdict(summary), "seed": seed})
