# SPDX-License-Identifier: Apache-2.0
"""``edgegen evaluate`` and ``edgegen compare``: what policies achieve."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from edgegen.envs.core.errors import InputError
from edgegen.platform.commands.options import (
    EpisodesOption,
    JsonOption,
    PlotOption,
    ScenarioOption,
    SeedOption,
    SetOption,
    TableOption,
    activity,
    console,
    draw_and_say,
    progress_console,
    refuse_same_output,
    world_from,
    write_then_show,
)
from edgegen.platform.defaults import EVALUATION_EPISODES, folder_label
from edgegen.platform.process import prefer_one_thread

if TYPE_CHECKING:
    from edgegen.algorithms.core.policy import Policy
    from edgegen.envs.core.world import WorldScenario
    from edgegen.platform.runs.comparison import Comparison

Grouping = Literal["method"]
"""What policies of a comparison are pooled by."""

_BY_ROLE = re.compile(r"\w+=\S*")


def evaluate(
    policy: Annotated[
        str, typer.Argument(help="Rule, or the folder of a trained policy; in quotes, several as ROLE=POLICY.")
    ],
    scenario: ScenarioOption = "demo",
    episodes: EpisodesOption = EVALUATION_EPISODES,
    seed: SeedOption = 0,
    settings: SetOption = None,
    json: JsonOption = None,
) -> None:
    """Measure one policy over whole episodes; a trained one both sampled and greedy."""
    from edgegen.algorithms.core.catalog import make_policy
    from edgegen.envs.core.kinds import kind_of
    from edgegen.platform.files import write_json
    from edgegen.platform.runs.comparison import decimals_for, measure_text
    from edgegen.platform.runs.evaluation import evaluate as measured
    from edgegen.platform.runs.statistics import mean_interval
    from edgegen.platform.screen import PlainTable

    prefer_one_thread()
    world = world_from(scenario, settings)
    kind = kind_of(world)
    decider = make_policy(policy, world, seed)
    notes = progress_console()
    say_notes({decider.name: decider}, notes)
    modes = {"sampled": True, "greedy": False} if decider.trained else {"rule": True}
    with activity(notes, f"Playing {episodes} episodes of {world.name}"):
        results = {mode: measured(world, decider, episodes, seed, explore) for mode, explore in modes.items()}
    intervals = {mode: mean_interval(result.deciding) for mode, result in results.items()}
    decimals = decimals_for(min(interval.estimate for interval in intervals.values()))
    table = PlainTable(
        title=f"{decider.name} on {world.name}: {episodes} episodes, seed {seed}",
        caption=f"± is a 95 % interval over episodes (Student t). {kind.averaged}",
    )
    table.add_column("actions")
    for mode in results:
        table.add_column(mode, justify="right")
    table.add_row(f"mean {kind.quantity}{kind.unit}", *(interval.text(decimals) for interval in intervals.values()))
    for measure in kind.detailed:
        shown = measure if measure.decimals is not None else replace(measure, decimals=decimals)
        table.add_row(measure.title, *(measure_text(shown, result) for result in results.values()))
    table.add_row(kind.counted, *(str(result.decisions) for result in results.values()))
    table.add_row("decisions/s", *(f"{result.decisions_per_s:,.0f}" for result in results.values()))
    modes_json = {
        mode: {**result.to_json(), kind.interval_name: intervals[mode].to_json()} for mode, result in results.items()
    }
    head = {"format": "edgegen-evaluation-1", "policy": policy, "information": decider.information}
    data = {**head, "scenario": world.model_dump(mode="json"), "actions": modes_json}
    write_then_show([] if json is None else [lambda: write_json(json, data)], lambda: console().print(table))


def compare(
    policies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[POLICY]...",
            help="Rules and folders of trained policies; ROLE=POLICY words side by side are one policy.",
        ),
    ] = None,
    scenario: ScenarioOption = "demo",
    episodes: EpisodesOption = EVALUATION_EPISODES,
    seed: SeedOption = 0,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            help="Policy to compare with; joins in if it is a rule that is not named.  "
            "[default: the reference of the kind of world]",
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="NAME", help="Name of a policy that is no rule in the table, in order; repeatable."
        ),
    ] = None,
    greedy: Annotated[
        bool, typer.Option("--greedy/--sampled", help="Most likely or sampled actions of trained policies.")
    ] = False,
    settings: SetOption = None,
    json: JsonOption = None,
    plot: PlotOption = None,
    table: TableOption = None,
    group: Annotated[
        Grouping | None,
        typer.Option("--group", help="Pool trainings of one method, preset and world that differ in their seeds."),
    ] = None,
) -> None:
    """Compare policies on identical arrivals or requests; without names, all rules and benchmarks."""
    from edgegen.envs.core.kinds import kind_of
    from edgegen.platform.files import write_json
    from edgegen.platform.runs import comparison
    from edgegen.platform.runs.pooling import in_folders, pooled_by_method

    refuse_same_output(json, plot, {"the table": table})
    prefer_one_thread()
    world = world_from(scenario, settings)
    reference = kind_of(world).reference if reference is None else reference
    entrants = make_entrants(policies or [], labels or [], reference, world, seed)
    notes = progress_console()
    say_notes(entrants, notes)
    with activity(notes) as say:
        result = comparison.compare(
            world,
            entrants,
            episodes,
            seed,
            reference,
            explore=not greedy,
            on_policy=lambda label: say(f"Playing {episodes} episodes of {world.name} with {label}"),
        )
    folders = in_folders(labelled(policies or [], labels or [], world), world)
    if group is not None:
        result = pooled_by_method(result, folders)

    def show() -> None:
        out = console()
        out.print(result.table())
        if any(entrant.trained for entrant in entrants.values()):
            chance = result.kind.paired_by
            if any(row.label in folders for row in result.rows):
                out.print(
                    f"Intervals say how far {chance} alone move a result; they do not cover a second training run."
                )

    writes = [] if json is None else [lambda: write_json(json, result.to_json())]
    if table is not None:
        writes.append(lambda: result.write_table(table))
    if plot is not None:
        writes.append(lambda: draw_and_say(lambda: _draw(result, plot), notes))
    write_then_show(writes, show)


def say_notes(policies: Mapping[str, Policy], notes: Console) -> None:
    """Say what policies have not met before."""
    for label, policy in policies.items():
        for note in policy.notes:
            notes.print(f"Note: {label} {note}.", soft_wrap=True)


def _draw(result: Comparison, plot: Path) -> list[Path]:
    from edgegen.platform.figures.plots import plot_comparison

    return plot_comparison(result, plot)


def make_entrants(
    names: list[str], labels: list[str], reference: str | None, world: WorldScenario, seed: int
) -> dict[str, Policy]:
    """Make the policies of a comparison by label; all rules and benchmarks if none is named.

    Args:
        names: Of policies, as on the command line.
        labels: Names in the table of those that are no rules.
        reference: Policy that joins in if it is a rule that is not named.
        world: The world.
        seed: Of the policies' random numbers.

    Raises:
        InputError: If a policy is unknown or named twice, or the labels do not fit.
    """
    from edgegen.algorithms.core.catalog import make_policy
    from edgegen.algorithms.core.rulebook import rules_for

    entrants = {label: make_policy(name, world, seed) for label, name in labelled(names, labels, world).items()}
    if reference is not None and reference not in entrants and reference in rules_for(world):
        entrants[reference] = make_policy(reference, world, seed)
    return entrants


def labelled(names: list[str], labels: list[str], world: WorldScenario) -> dict[str, str]:
    """Return the names of policies by what they are called in a table; see :func:`make_entrants`."""
    from edgegen.algorithms.core.catalog import plain_name, split_roles
    from edgegen.algorithms.core.rulebook import rules_for
    from edgegen.envs.core.kinds import kind_of

    roles = kind_of(world).world.roles
    wanted = [plain_name(name, roles) for name in joined_by_role(names, roles)]
    rules = rules_for(world)
    wanted = wanted or list(rules)
    others = [name for name in wanted if name not in rules]
    if len(labels) > len(others):
        raise InputError(f"There are {len(labels)} --label names for {len(others)} trained policies.")
    given = iter(labels)
    found: dict[str, str] = {}
    for name in wanted:
        own = name if name in rules or split_roles(name, roles) else folder_label(name)
        label = own if name in rules else next(given, own)
        if label in found or (name not in rules and label in rules):
            raise InputError(f"Two policies are called '{label}'; name trained ones apart with --label.")
        found[label] = name
    return found


def joined_by_role(words: Iterable[str], roles: Collection[str]) -> list[str]:
    """Join ``ROLE=POLICY`` words that stand side by side to one policy; a role that comes again begins the next.

    Args:
        words: Names of policies, and such words.
        roles: Roles of the world.
    """
    policies: list[str] = []
    taken: set[str] = set()
    for word in words:
        role = word.partition("=")[0]
        alone = _BY_ROLE.fullmatch(word) is None  # with a space inside it is a whole policy
        # What follows an unfinished one is meant for it, even where the role is misspelt: then the sentence says so.
        if alone or not taken or role in taken or len(taken) == len(roles):
            policies.append(word)
            taken = {role} if role in roles and not alone else set()
        else:
            policies[-1] += f" {word}"
            taken.add(role)
    return policies
