"""Options that mean the same everywhere, and the consoles that commands write to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from edgegen.envs.fields import MAX_SEED
from edgegen.envs.scenario import Scenario, load_scenario
from edgegen.platform.overrides import parse_overrides, split_overrides

if TYPE_CHECKING:
    from edgegen.algorithms.policy import Policy
    from edgegen.platform.worlds import World

_PLAIN_WIDTH = 160

ScenarioOption = Annotated[
    str, typer.Option("--scenario", "-s", metavar="NAME", help="Shipped scenario, or the path of a .yaml file.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=MAX_SEED, help="Root of all random numbers.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a field, e.g. tasks_per_slot.high=30; repeatable."),
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the results, machine-readable.")
]
AddressOption = Annotated[
    str | None, typer.Option("--address", metavar="ADDRESS", help="Ray cluster to use; a private one unless given.")
]
EpisodesOption = Annotated[int, typer.Option("--episodes", "-n", min=1, help="Evaluation episodes per policy.")]


def console() -> Console:
    """Return the console for results, on stdout. Piped tables keep a width that spares them line breaks."""
    return _console(stderr=False)


def progress_console() -> Console:
    """Return the console for progress and notes, on stderr, so that stdout holds nothing but results."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made = Console(stderr=stderr, highlight=False, width=_PLAIN_WIDTH)
    return made


def check_outputs(json: Path | None, plot: Path | None) -> None:
    """Check where results and a plot are to go, before anything takes time.

    Raises:
        InputError: If a file can not be written, or a plot can not have this name.
    """
    from edgegen.platform.files import check_writable_file, refuse_same_file

    refuse_same_file({"the machine-readable result": json, "the plot": plot})
    for path in (json, plot):
        if path is not None:
            check_writable_file(path)
    if plot is not None:
        from edgegen.platform.plots import check_plot_path

        check_plot_path(plot)


def scenario_from(name: str, settings: list[str] | None) -> Scenario:
    """Load an offloading scenario with ``--set`` overrides.

    Raises:
        InputError: If the scenario, a name or a value is wrong.
    """
    overrides, _ = split_overrides(parse_overrides(settings or []), Scenario.model_fields)
    return load_scenario(name, overrides)


def world_from(name: str, settings: list[str] | None) -> World:
    """Load a scenario of any kind with ``--set`` overrides.

    Raises:
        InputError: If the scenario, a name or a value is wrong.
    """
    from edgegen.platform.worlds import load_world

    parsed = parse_overrides(settings or [])
    return load_world(name, lambda fields: split_overrides(parsed, fields)[0])


def policy_from(name_or_path: str, scenario: Scenario, seed: int) -> Policy:
    """Make a rule, or load a trained policy, for an offloading scenario.

    Raises:
        InputError: If there is no such policy, or it does not fit the scenario.
    """
    from edgegen.algorithms.registry import make_policy

    return make_policy(name_or_path, scenario, seed)
