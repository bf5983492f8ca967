"""``edgegen trace``: real requests for the fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgegen.platform.commands.options import JsonOption, console, input_file, output_file, write_then_show

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
