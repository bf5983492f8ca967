# SPDX-License-Identifier: Apache-2.0
"""``edgegen scenarios``: the worlds that come with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from edgegen.platform.commands.options import JsonOption, console, write_then_show
from edgegen.platform.screen import PlainTable


def scenarios(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORLD]...", help="Only these, shipped or of .yaml files.", show_default=False),
    ] = None,
    json: JsonOption = None,
) -> None:
    """List the shipped scenarios, or describe some worlds."""
    from edgegen.envs.core.kinds import kinds
    from edgegen.envs.core.scenarios import load_scenario, scenario_names
    from edgegen.platform.files import write_json

    tables: list[PlainTable] = []
    notes: list[str] = []
    data: dict[str, object] = {}
    given = {name: load_scenario(name) for name in files or []}
    for kind in kinds().values():
        found = given or {name: load_scenario(name) for name in scenario_names(kind.name) or [kind.default_scenario]}
        found = {name: scenario for name, scenario in found.items() if scenario.kind == kind.name}
        if not found:
            continue
        table = PlainTable(title=kind.name.capitalize(), caption=kind.caption, pad_edge=False, collapse_padding=True)
        table.add_column("name", no_wrap=True)
        for column in kind.columns:
            table.add_column(column.title, justify="right", no_wrap=True)
        if not kind.descriptions_apart:
            table.add_column("description")
        for name, scenario in found.items():
            description = "" if ":" in name else scenario.description  # a variant's is that of its scenario
            beside = [] if kind.descriptions_apart else [description]
            table.add_row(name, *(column.text(scenario) for column in kind.columns), *beside)
            if kind.descriptions_apart and description:
                notes.append(f"{name}: {description}")
            data[name] = {**scenario.model_dump(mode="json"), **kind.size(scenario)}
        tables.append(table)

    def show() -> None:
        shown_on = console()
        for table in tables:
            shown_on.print(table)
        for note in notes:
            shown_on.print(note, soft_wrap=True)

    write_then_show([] if json is None else [lambda: write_json(json, data)], show)
