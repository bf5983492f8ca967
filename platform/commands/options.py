# SPDX-License-Identifier: Apache-2.0
"""Options that mean the same everywhere, and what is done with their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.paths import as_path
from edgegen.envs.core.seeds import MAX_SEED
from edgegen.platform.defaults import RUNS
from edgegen.platform.files import (
    check_plot_path,
    check_png_path,
    check_readable_file,
    check_table_path,
    check_writable_file,
    check_writable_folder,
    draw_or_tell,
    plot_files,
    refuse_same_file,
)
from edgegen.platform.overrides import parse_overrides, split_overrides
from edgegen.platform.screen import activity, console, progress_console

if TYPE_CHECKING:
    from edgegen.algorithms.core.policy import Policy
    from edgegen.envs.core.world import WorldScenario
    from edgegen.envs.offloading.scenario import OffloadingScenario

__all__ = ["activity", "console", "progress_console"]

Given = str | Path | None
"""A path as it comes from the command line, or as a default."""


def output_file(path: Given) -> Path | None:
    """Check where a file is to be written, before anything takes time."""
    return None if path is None else check_writable_file(path)


def output_folder(path: Given) -> Path | None:
    """Check where a folder is to be written, before anything takes time."""
    return None if path is None else check_writable_folder(path)


def plot_file(path: Given) -> Path | None:
    """Check where a plot is to be written, before anything takes time."""
    if path is None:
        return None
    path = check_plot_path(path)
    for file in plot_files(path):
        check_writable_file(file)
    return path


def table_file(path: str | None) -> Path | None:
    """Check where a table is to be written, before anything takes time."""
    return None if path is None else check_table_path(path)


def png_file(path: Given) -> Path | None:
    """Check where a picture is to be written, before anything takes time."""
    return None if path is None else check_png_path(path)


def input_file(what: str, ending: str) -> Callable[[Given], Path | None]:
    """Return what checks a file that is to be read.

    Args:
        what: What it is, for example ``trace``.
        ending: How the names of such files end, for a suggestion.
    """

    def check(path: Given) -> Path | None:
        return None if path is None else check_readable_file(path, what, ending)

    return check


def recorded(what: str, ending: str) -> Callable[[Given], Path | None]:
    """Return what checks a file that is to be read, or a folder of recorded requests.

    Args:
        what: What it is.
        ending: How the names of such files end, for a suggestion.
    """

    def file_or_folder(path: Given) -> Path | None:
        if path is None:
            return None
        folder = as_path(path, f"{what.capitalize()} file")
        return folder if folder.is_dir() else check_readable_file(path, what, ending)

    return file_or_folder


def run_folder(path: Given) -> Path | None:
    """Check the folder of a run; what is in it is the business of who reads it."""
    if path is None:
        return None
    path = as_path(path, "Run folder")
    if path.exists() and not path.is_dir():
        raise InputError(f"'{path}' is a file; give the folder of a run.")
    return path


def place(given: str | None) -> str | None:
    """Expand ``~`` in what may be a path or a name, and refuse what can be neither."""
    if given is None or "://" in given:
        return given
    path = as_path(given, "The name")
    return str(path) if given.startswith("~") else given  # as a path, ./NAME would be the same as NAME


ScenarioOption = Annotated[
    str, typer.Option("--scenario", "-s", metavar="NAME", help="Shipped scenario, or the path of a .yaml file.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=MAX_SEED, help="Root of all random numbers.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a field, e.g. tasks_per_slot.high=30; repeatable."),
]


def run_out(default: str) -> Any:
    """Declare ``--out`` of a command that begins a run.

    Args:
        default: Name of the folder in ``runs``, for people.
    """
    return typer.Option(
        "--out",
        metavar="DIR",
        parser=str,
        callback=output_folder,
        help=f"Run folder.  [default: {RUNS}/{default}]",
    )


def run_resume(what: str, changeable: str) -> Any:
    """Declare ``--resume`` of such a command.

    Args:
        what: What is continued.
        changeable: What is kept, or may change, for people.
    """
    return typer.Option(
        "--resume", metavar="RUNDIR", parser=str, callback=run_folder, help=f"Continue this {what}; {changeable}."
    )


JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json", metavar="FILE", parser=str, callback=output_file, help="Also write the results, machine-readable."
    ),
]
PlotOption = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        parser=str,
        callback=plot_file,
        help="Also draw it, as .png and .svg, or as .pdf.",
    ),
]
TableOption = Annotated[
    Path | None,
    typer.Option(
        "--table",
        metavar="FILE",
        parser=str,
        callback=table_file,
        help="Also write the table: .csv, .tex (booktabs) or .md.",
    ),
]
AddressOption = Annotated[
    str | None, typer.Option("--address", metavar="ADDRESS", help="Ray cluster to use; a private one unless given.")
]
EpisodesOption = Annotated[int, typer.Option("--episodes", "-n", min=1, help="Evaluation episodes per policy.")]


def refuse_same_output(json: Path | None, plot: Path | None, others: dict[str, Path | None] | None = None) -> None:
    """Refuse to write one result over another.

    Args:
        json: Where the machine-readable result goes.
        plot: Where a plot goes; the other kind of it goes beside it.
        others: Further files, by what each is.

    Raises:
        InputError: If two are the same.
    """
    names = ("the plot", "the plot of the other kind")
    plots = {} if plot is None else dict(zip(names, _own_first(plot), strict=False))
    refuse_same_file({"the machine-readable result": json, **(others or {}), **plots})


def _own_first(plot: Path) -> list[Path]:
    return sorted(plot_files(plot), key=lambda path: path.suffix != plot.suffix.lower())


def draw_and_say(draw: Callable[[], list[Path]], notes: Console) -> None:
    """Draw a plot, and say where it is; if it can not be drawn that is told, and nothing else fails.

    Args:
        draw: Imports what it needs, draws, and returns the files written.
        notes: Where to say so.
    """
    if written := draw_or_tell(draw, lambda sentence: notes.print(sentence, soft_wrap=True)):
        notes.print(f"Plot: {' and '.join(str(path) for path in written)}", soft_wrap=True)


def write_then_show(writes: Iterable[Callable[[], object]], show: Callable[[], None]) -> None:
    """Write results to files, and show them after that; a file that can not be written hides nothing.

    Args:
        writes: What writes a file each.
        show: What shows the results.

    Raises:
        InputError: At the end, if a file could not be written.
    """
    failed: InputError | None = None
    for write in writes:
        try:
            write()
        except InputError as error:
            failed = failed or error
    show()
    if failed is not None:
        raise failed


def scenario_from(name: str, settings: list[str] | None) -> OffloadingScenario:
    """Load an offloading scenario with ``--set`` overrides.

    Raises:
        InputError: If the scenario, a name or a value is wrong.
    """
    from edgegen.envs.core.scenarios import load_scenario
    from edgegen.envs.offloading.scenario import OffloadingScenario

    overrides, _ = split_overrides(parse_overrides(settings or []), set(OffloadingScenario.model_fields) - {"kind"})
    return load_scenario(name, overrides, OffloadingScenario)


def world_from(name: str, settings: list[str] | None) -> WorldScenario:
    """Load a scenario of any kind with ``--set`` overrides.

    Raises:
        InputError: If the scenario, a name or a value is wrong.
    """
    from edgegen.envs.core.scenarios import load_scenario, scenario_model

    overrides, _ = split_overrides(parse_overrides(settings or []), set(scenario_model(name).model_fields) - {"kind"})
    scenario: WorldScenario = load_scenario(name, overrides)
    return scenario


def policy_from(name_or_path: str, scenario: OffloadingScenario, seed: int) -> Policy:
    """Make a rule, or load a trained policy, for an offloading scenario.

    Raises:
        InputError: If there is no such policy, or it does not fit the scenario.
    """
    from edgegen.algorithms.core.catalog import make_policy

    return make_policy(name_or_path, scenario, seed)


def refuse_with_resume(context: typer.Context, fixed: Mapping[str, str], what: str, changeable: str) -> None:
    """Refuse options that something resumed would silently ignore.

    Args:
        context: The command.
        fixed: Flags by parameter.
        what: What is resumed.
        changeable: What may be given.

    Raises:
        InputError: If one of them was given.
    """
    for name, flag in fixed.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(
                f"{flag} can not be combined with --resume, because a resumed {what} keeps its own settings; "
                f"only {changeable} may change."
            )
