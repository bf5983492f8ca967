# SPDX-License-Identifier: Apache-2.0
"""``edgegen trace``: real requests for the fleet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgegen.platform.commands.options import (
    JsonOption,
    SeedOption,
    console,
    draw_and_say,
    output_file,
    place,
    plot_file,
    progress_console,
    recorded,
    refuse_same_output,
    write_then_show,
)

if TYPE_CHECKING:
    from edgegen.envs.fleet.scenario import FleetScenario
    from edgegen.envs.fleet.traces import Trace

TraceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="TRACE",
        parser=str,
        callback=recorded("trace", ".parquet"),
        help="What `edgegen trace import` wrote, or the folder of what a service recorded.",
    ),
]

BASE = "fleet-gentd"
FITTED, PLAYED = "fitted", "recorded"
AT_ONCE_S = 0.001
"""Time between reports of edges where nobody waits for them, s."""

trace = typer.Typer(help="Real requests for the fleet, from files that others recorded.")


@trace.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            parser=str,
            callback=recorded("trace", ".csv"),
            help="File with recorded requests, or the folder of what a service recorded.",
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
    ] = BASE,
    config: Annotated[
        str | None,
        typer.Option(
            "--config", "-c", metavar="NAME", callback=place, help="Service that says it instead, and recorded."
        ),
    ] = None,
    arrivals: Annotated[
        str, typer.Option(metavar="HOW", help="Draw requests like those that came (fitted), or play these (recorded).")
    ] = FITTED,
    check: Annotated[
        int, typer.Option(min=0, metavar="EPISODES", help="Episodes to set beside what a service recorded.")
    ] = 4,
    seed: SeedOption = 0,
) -> None:
    """Fit a fleet world to a trace: its day, its bursts, its popularity, steps and pictures.

    Of what a service recorded, also speeds of the edges, times of the models, loads, ways, and how far they vary.
    """
    from edgegen.envs.core.errors import InputError, did_you_mean
    from edgegen.envs.core.named_files import YAML
    from edgegen.envs.core.yaml_files import dump_yaml
    from edgegen.platform.files import refuse_same_file, write_text
    from edgegen.platform.screen import PlainTable

    refuse_same_file({"the trace": file, "the scenario": out})
    if out.suffix not in YAML:
        raise InputError(f"The scenario '{out}' must end in .yaml.")
    if arrivals not in (FITTED, PLAYED):
        raise InputError(
            f"--arrivals is '{arrivals}', but must be {FITTED} or {PLAYED}.{did_you_mean(arrivals, (FITTED, PLAYED))}"
        )
    if config is not None and scenario != BASE:
        raise InputError("--config and --scenario both say which edges there are; give one of the two.")
    if file.is_dir():
        fields, rows = _fitted_service(file, scenario, config, arrivals == PLAYED, out.stem, check, seed)
    else:
        fields, rows = _fitted_trace(file, scenario, config, arrivals == PLAYED, out.stem), None
    text = dump_yaml(fields)

    def show() -> None:
        console().print(text, markup=False, highlight=False)
        if rows:
            table = PlainTable(title="Served, and simulated in this world")
            for title in ("", "served", "simulated"):
                table.add_column(title, justify="right" if title else "left")
            for title, *values in rows:
                table.add_row(title, *(f"{value:.4g}" for value in values))
            console().print(table)

    write_then_show([lambda: write_text(out, text)], show)


def _fitted_trace(file: Path, scenario: str, config: str | None, played: bool, name: str) -> dict[str, Any]:
    """A scenario file of a world with requests like those of a trace."""
    from edgegen.envs.core.named_files import is_file_name
    from edgegen.envs.core.scenario_files import split_variant
    from edgegen.platform.traces.fitting import fitted

    base = _fleet(scenario) if config is None else _service(config)[0]
    data = fitted(_trace(file), base)
    if played:
        data |= {"recorded": {"trace": str(file.resolve())}, "bursts": None, "day": None}
    head = {"name": name, "description": f"As {base.name}, with requests like those of {file.name}."}
    if config is not None:
        return {"kind": base.kind, **_said(base), **head, **data}
    extended, variant = split_variant(scenario)
    if is_file_name(extended):
        extended = str(Path(extended).expanduser().resolve())
    return {"extends": f"{extended}:{variant}" if variant else extended, **head, **data}


def _fitted_service(
    folder: Path, scenario: str, config: str | None, played: bool, name: str, check: int, seed: int
) -> tuple[dict[str, Any], list[tuple[str, float, float]] | None]:
    """A scenario file of a world that is like the service that recorded, and how its delays compare, if they can."""
    from edgegen.algorithms.core.catalog import make_policy
    from edgegen.envs.core.errors import InputError
    from edgegen.envs.core.records import read_records
    from edgegen.platform.traces.recording import beside_served, fitted_fleet, from_recording, in_charge

    records, what = read_records(folder), f"Recording '{folder}'"
    cloud = None
    if config is None:
        base, edges, models = from_recording(records, what, _fleet(scenario))
    else:
        base, edges, models, cloud = _service(config)
    path = str(folder.resolve()) if played else None
    world = fitted_fleet(records, what, base, edges, models, cloud, path)
    world = world.model_copy(update={"name": name, "description": f"A service as it was recorded in {folder.name}."})
    fields = _said(world)
    rows = None
    if check:
        try:
            policy = make_policy(in_charge(records), world, seed)
        except InputError as error:
            progress_console().print(f"Not simulated: {error}", soft_wrap=True)
        else:
            rows = beside_served(records, world, policy, check, seed)
    return {"kind": world.kind, **fields}, rows


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


def _said(world: FleetScenario) -> dict[str, Any]:
    """The fields of a world that are not as usual."""
    whole = world.model_dump(mode="json", exclude_none=True, exclude={"recorded": {"content"}})
    usual = {name: field.get_default(call_default_factory=True) for name, field in type(world).model_fields.items()}
    return {name: value for name, value in whole.items() if getattr(world, name) != usual[name]}


def _service(config: str) -> tuple[FleetScenario, list[str], list[str], str | None]:
    """The fleet that stands for a service, names of its sites and models, and of the edge that is the cloud."""
    from edgegen.envs.core.scenarios import build_scenario
    from edgegen.envs.fleet.scenario import FleetScenario
    from edgegen.serve.config import load_config
    from edgegen.serve.kinds.registry import training_scenario

    service = load_config(config).model_copy(update={"kind": "fleet"})
    fields = training_scenario(service).model_dump()
    if service.gateways == 1:  # it knows what it has placed without a report
        fields["report_s"] = AT_ONCE_S
    world = build_scenario(fields, FleetScenario)
    cloud = next((edge.name for edge in service.edges if edge.cloud is not None), None)
    return world, list(service.homes), list(service.models), cloud


def _fleet(scenario: str) -> FleetScenario:
    """Load a fleet scenario; those of other kinds are refused."""
    from edgegen.envs.core.scenarios import load_scenario
    from edgegen.envs.fleet.scenario import FleetScenario

    return load_scenario(scenario, None, FleetScenario)
