"""``edgegen scenarios``: the worlds that come with the package."""

from __future__ import annotations

from collections.abc import Sequence

from edgegen.platform.commands.options import JsonOption, console, write_then_show
from edgegen.platform.screen import PlainTable


def scenarios(json: JsonOption = None) -> None:
    """List the shipped scenarios."""
    from edgegen.envs.offloading.scenario import load_scenario, scenario_names
    from edgegen.envs.provisioning.scenario import load_provisioning, provisioning_names
    from edgegen.platform.files import write_json

    offloading = {name: load_scenario(name) for name in scenario_names()}
    provisioning = {name: load_provisioning(name) for name in provisioning_names()}
    table = _table("Offloading", "tasks/slot: per server; load: offered work over the capacity of all servers.")
    for title in ("servers", "tasks/slot", "load"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("description")
    for name, scenario in offloading.items():
        tasks = scenario.tasks_per_slot
        numbers = (str(scenario.servers), f"{tasks.low}-{tasks.high}", f"{scenario.load:.2f}")
        table.add_row(name, *numbers, _description(name, scenario.description))
    tables = [table]
    table = _table("Provisioning", "users, storage and steps/slot: per cell; models are cached once per frame.")
    # Headings of two lines and descriptions below: names must not be cut, also where a terminal is narrow.
    for title in ("cells", "users", "models", "storage,\nGB", "steps/\nslot", "backhaul,\nMbit/s"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, world in provisioning.items():
        shown = (
            *(str(count) for count in (world.cells, world.users, world.models)),
            _span(world.storage_per_cell_gb),
            _span(world.steps_per_cell),
            f"{world.backhaul_mbit_s:g}",
        )
        table.add_row(name, *shown)
    tables.append(table)

    def show() -> None:
        shown_on = console()
        for each in tables:
            shown_on.print(each)
        for name, world in provisioning.items():
            if description := _description(name, world.description):
                shown_on.print(f"{name}: {description}", soft_wrap=True)

    data: dict[str, object] = {
        name: {**scenario.model_dump(mode="json"), "servers": scenario.servers, "load": scenario.load}
        for name, scenario in offloading.items()
    }
    data |= {name: world.model_dump(mode="json") for name, world in provisioning.items()}
    write_then_show([] if json is None else [lambda: write_json(json, data)], show)


def _table(title: str, caption: str) -> PlainTable:

    table = PlainTable(
        title=title,
        caption=caption,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("name", no_wrap=True)
    return table


def _description(name: str, description: str) -> str:
    return "" if ":" in name else description  # a variant's is that of its scenario


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"
