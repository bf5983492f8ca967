# SPDX-License-Identifier: Apache-2.0
"""``edgegen play``: one episode, to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.seeds import MAX_SEED
from edgegen.platform.commands.compare import make_entrants, say_notes
from edgegen.platform.commands.options import (
    SeedOption,
    SetOption,
    activity,
    console,
    draw_and_say,
    output_file,
    png_file,
    progress_console,
    world_from,
    write_then_show,
)
from edgegen.platform.files import refuse_same_file, write_text
from edgegen.platform.process import prefer_one_thread
from edgegen.platform.screen import PlainTable

if TYPE_CHECKING:
    from edgegen.platform.runs.episode import Episode

MOST_POLICIES = 2


def play(
    scenario: Annotated[str, typer.Argument(metavar="WORLD", help="Shipped scenario, or the path of a .yaml file.")],
    policy: Annotated[
        list[str],
        typer.Option(
            metavar="POLICY",
            help="Rule, or the folder of a trained policy; in quotes, several as ROLE=POLICY. Twice: two side by side.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", parser=str, callback=output_file, help="Page to write, for any browser.")
    ],
    episode: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Number of the evaluation episode.")] = 0,
    seed: SeedOption = 0,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME", help="Name of a policy that is no rule, in order; repeatable."),
    ] = None,
    greedy: Annotated[
        bool, typer.Option("--greedy/--sampled", help="Most likely or sampled actions of trained policies.")
    ] = False,
    settings: SetOption = None,
    png: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=str, callback=png_file, help="Also draw the time line, as .png."),
    ] = None,
) -> None:
    """Play one episode and write it as a page to look at: what every site did, moment by moment."""
    from edgegen.platform.figures.episode_page import episode_page
    from edgegen.platform.runs.episode import check_shown, play_episode

    refuse_same_file({"the page": out, "the picture": png})
    prefer_one_thread()
    world = world_from(scenario, settings)
    check_shown(world)
    entrants = make_entrants(policy, labels or [], None, world, seed)
    if len(entrants) > MOST_POLICIES:
        raise InputError(f"There are {len(entrants)} policies, but at most {MOST_POLICIES} stand side by side.")
    notes = progress_console()
    say_notes(entrants, notes)
    with activity(notes) as say:
        shown = play_episode(
            world,
            entrants,
            episode,
            seed,
            explore=not greedy,
            on_policy=lambda label: say(f"Playing episode {episode} of {world.name} with {label}"),
        )
    writes = [lambda: write_text(out, episode_page(shown))]
    if png is not None:
        writes.append(lambda: draw_and_say(lambda: _draw(shown, png), notes))
    write_then_show(writes, lambda: console().print(_table(shown)))
    notes.print(f"Page: {out}", soft_wrap=True)


def _draw(shown: Episode, png: Path) -> list[Path]:
    from edgegen.platform.figures.episode_plot import plot_episode

    return plot_episode(shown, png)


def _table(shown: Episode) -> PlainTable:
    """Lay out what each policy achieved in the episode."""
    from edgegen.envs.core.kinds import Measure, kind_of
    from edgegen.platform.runs.comparison import measure_text

    kind = kind_of(shown.scenario)
    measures = [Measure(f"{kind.quantity}{kind.unit}", kind.metric, 3), *kind.shown]
    table = PlainTable(
        title=f"{shown.scenario.name}: episode {shown.number} with identical {kind.paired_by}, seed {shown.seed}"
    )
    table.add_column("policy", no_wrap=True)
    for measure in measures:
        table.add_column(measure.title, justify="right")
    for played in shown.played:
        table.add_row(played.label, *(measure_text(measure, played.values) for measure in measures))
    return table
