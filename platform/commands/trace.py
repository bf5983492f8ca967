"""``edgegen trace``: real requests for the fleet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgegen.platform.commands.options import (
    JsonOption,
    SeedOption,
    console,
    draw_and_say,
    input_file,
    output_file,
    place,
    plot_file,
    refuse_same_output,
    write_then_show,
)

if TYPE_CHECKING:
    from edgegen.envs.fleet.scenario import FleetScenario
    from edgegen.envs.fleet.traces import Trace

TraceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="TRACE", parser=str, callback=input_file("trace", ".parquet"), help="What `edgegen trace import` wrote."
    ),
]

trace = typer.Typer(help="Real requests for the fleet, from files that others recorded.")


@trace.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", parser=str, callback=input_file("trace", ".csv"), help="File with recorded requests."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="TRACE", parser=str, callback=output_file, help="Trace to write, a .parquet file."),
    ],
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="Its form: gentd26, azure-llm-2023 or edgegen.")
    ] = "edgegen",
    json: JsonOption = None,
) -> None:
    """Bring recorded requests into the form that the fleet replays, and tell what is odd about them."""
    from rich.box import SIMPLE

    from edgegen.envs.core.errors import InputError
    from edgegen.envs.core.named_files import PARQUET
    from edgegen.platform.files import refuse_same_file, write_bytes, write_json
    from edgegen.platform.screen import PlainTable
    from edgegen.platform.traces.formats import TITLES, read_format

    refuse_same_file({"the recorded file": file, "the trace": out, "the machine-readable result": json})
    if out.suffix not in PARQUET:
        raise InputError(f"The trace '{out}' must end in .parquet.")
    found = read_format(file, form)
    facts = found.facts
    table = PlainTable(title=f"{file.name} as a trace", show_header=False, box=SIMPLE)
    for name, value in facts.items():
        text = ", ".join(value) if isinstance(value, list) else f"{value:,.15g}"
        table.add_row(TITLES[name], text)
    content = found.trace.to_parquet({"imported_from": form})
    writes = [lambda: write_bytes(out, content)]
    if json is not None:
        path = json
        writes.append(lambda: write_json(path, {"format": "edgegen-trace-import-1", **facts}))
    write_then_show(writes, lambda: console().print(table))


@trace.command()
def fit(
    file: TraceArgument,
    out: Annotated[
        Path, typer.Option(metavar="FILE", parser=str, callback=output_file, help="Scenario to write, a .yaml file.")
    ],
    scenario: Annotated[
        str,
        typer.Option(
            "--scenario", "-s", metavar="NAME", help="Fleet that says all that a trace does not: sites, models, load."
        ),
    ] = "fleet-gentd",
) -> None:
    """Fit a fleet world to a trace: its day, its bursts, its popularity, steps and pictures."""
    from edgegen.envs.core.errors import InputError
    from edgegen.envs.core.named_files import YAML, is_file_name
    from edgegen.envs.core.scenario_files import split_variant
    from edgegen.envs.core.yaml_files import dump_yaml
    from edgegen.platform.files import refuse_same_file, write_text
    from edgegen.platform.traces.fitting import fitted

    refuse_same_file({"the trace": file, "the scenario": out})
    if out.suffix not in YAML:
        raise InputError(f"The scenario '{out}' must end in .yaml.")
    base = _fleet(scenario)
    data = fitted(_trace(file), base)
    extended, variant = split_variant(scenario)
    if is_file_name(extended):
        extended = str(Path(extended).expanduser().resolve())
    head = {
        "extends": f"{extended}:{variant}" if variant else extended,
        "name": out.stem,
        "description": f"As {base.name}, with requests like those of {file.name}.",
    }
    text = dump_yaml({**head, **data})
    write_then_show([lambda: write_text(out, text)], lambda: console().print(text, markup=False, highlight=False))


@trace.command()
def compare(
    file: TraceArgument,
    scenario: Annotated[
        str, typer.Argument(metavar="SCENARIO", callback=place, help="Fleet, shipped or the path of a .yaml file.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=str, callback=plot_file, help="Also draw both, as .png and .svg."),
    ] = None,
    seed: SeedOption = 0,
    json: JsonOption = None,
) -> None:
    """Show a trace beside the requests of a world: rates, bursts, popularity, and what memories would have had."""
    from rich.box import SIMPLE

    from edgegen.platform.files import write_json
    from edgegen.platform.screen import PlainTable
    from edgegen.platform.traces import measures
    from edgegen.platform.traces.comparing import facts, plot_traces

    refuse_same_output(json, out, {"the trace": file})
    world, recorded = _fleet(scenario), _trace(file)
    period_s = measures.curve_period_s(recorded)
    of_trace = measures.measured(recorded, period_s)
    of_world = measures.measured(measures.drawn_trace(world, recorded, seed), period_s)
    rows = facts(of_trace, of_world)
    table = PlainTable(title=f"{file.name} and {world.name}, seed {seed}", box=SIMPLE)
    for title in ("", "trace", "world"):
        table.add_column(title, justify="right" if title else "left")
    for title, *values in rows:
        table.add_row(title, *("" if value is None else f"{value:.4g}" for value in values))
    writes = []
    if json is not None:
        path = json
        data = {title: {"trace": one, "world": other} for title, one, other in rows}
        writes.append(lambda: write_json(path, {"format": "edgegen-trace-compare-1", "seed": seed, "measured": data}))
    write_then_show(writes, lambda: console().print(table))
    if out is not None:
        picture = out
        draw_and_say(lambda: plot_traces(of_trace, of_world, f"{file.name} and {world.name}", picture), console())


def _trace(file: Path) -> Trace:
    """Read a trace."""
    from edgegen.platform.traces.formats import read_format

    return read_format(file, "edgegen").trace


def _fleet(scenario: str) -> FleetScenario:
    """Load a fleet scenario; those of other kinds are refused."""
    from edgegen.envs.core.scenarios import load_scenario
    from edgegen.envs.fleet.scenario import FleetScenario

    return load_scenario(scenario, None, FleetScenario)
