"""``edgegen scenarios``: the worlds that come with the package."""

from __future__ import annotations

from edgegen.platform.commands.options import JsonOption, console


def scenarios(json: JsonOption = None) -> None:
    """List the shipped scenarios."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from edgegen.envs.scenario import load_scenario, scenario_names
    from edgegen.platform.files import check_writable_file, write_json

    if json is not None:
        check_writable_file(json)
    table = Table(
        title="Scenarios",
        caption="tasks/slot: per server; load: offered work over the capacity of all servers.",
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("name", no_wrap=True)
    table.add_column("servers", justify="right", no_wrap=True)
    table.add_column("tasks/slot", justify="right", no_wrap=True)
    table.add_column("load", justify="right")
    table.add_column("description")
    data = {}
    for name in scenario_names():
        scenario = load_scenario(name)
        tasks = scenario.tasks_per_slot
        table.add_row(
            name,
            str(scenario.servers),
            f"{tasks.low}-{tasks.high}",
            f"{scenario.load:.2f}",
            "" if ":" in name else scenario.description,  # a variant's is that of its scenario
        )
        data[name] = {**scenario.model_dump(mode="json"), "servers": scenario.servers, "load": scenario.load}
    console().print(table)
    if json is not None:
        write_json(json, data)
