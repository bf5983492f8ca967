# SPDX-License-Identifier: Apache-2.0
"""``edgegen chaos``: break a training on purpose and see whether it comes through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from edgegen.envs.core.errors import InputError
from edgegen.platform.commands.options import JsonOption, console, output_folder, progress_console
from edgegen.platform.process import prefer_one_thread, quiet_libraries

if TYPE_CHECKING:
    from edgegen.platform.cluster.chaos import ChaosPlan

Row = dict[str, Any]


def chaos(
    faults: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FAULT]...", help="runner, learner, node, driver, disk, head; all if left out."),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            parser=str,
            callback=output_folder,
            help="Folder for the runs.  [default: a new runs/chaos]",
            show_default=False,
        ),
    ] = Path("runs/chaos"),
    quick: Annotated[bool, typer.Option("--quick", help="Short trainings and one undisturbed seed.")] = False,
    json: JsonOption = None,
) -> None:
    """Kill parts of a local Ray cluster while it trains, or serves; tells what was done, said, and how it ended."""
    from edgegen.platform.cluster.chaos import FAULTS, HEAD, check_faults
    from edgegen.platform.run_folder import take_new

    notes = progress_console()
    wanted = list(faults or [*FAULTS, HEAD])
    check_faults(wanted)
    if HEAD in wanted and (missing := _missing_for_head()):
        if faults:
            raise InputError(f"The fault '{HEAD}' needs {missing}.")
        wanted.remove(HEAD)
        notes.print(f"Leaving out '{HEAD}': it needs {missing}.", soft_wrap=True)
    prefer_one_thread()
    quiet_libraries()
    with take_new(out, "run", numbered=True) as taken:
        failed = _break(taken.path, wanted, quick, json, notes)
    if failed:
        raise InputError(f"Not everything came through: {', '.join(failed)}.")


def _break(folder: Path, wanted: list[str], quick: bool, json: Path | None, notes: Console) -> list[str]:
    """Break what is wanted; returns the faults that something did not come through."""
    from edgegen.platform.cluster.chaos import HEAD, ChaosPlan
    from edgegen.platform.files import write_json

    results = console()
    plan = ChaosPlan(folder)
    if quick:
        plan = ChaosPlan(folder, episodes=48, checkpoint_every=16, strike_at=24, seeds=(0,), evaluation_episodes=5)
    rows: list[Row] = []

    def keep(row: Row) -> None:
        """Write what is known so far, before it is shown."""
        rows.append(row)
        if json is not None:
            write_json(json, {"format": "edgegen-chaos-1", "outcomes": rows})

    if trained := [name for name in wanted if name != HEAD]:
        notes.print("Starting a Ray cluster of a head and two worker nodes")
        _train(plan, trained, results, keep)
    if HEAD in wanted:
        notes.print("Starting a Ray cluster with Redis, and the service on it")
        _serve(folder / HEAD, quick, results, keep)
    return [row["fault"] for row in rows if not row["came_through"]]


def _train(plan: ChaosPlan, faults: list[str], results: Console, keep: Callable[[Row], None]) -> None:
    """Break trainings; keeps and shows what came of each."""
    from edgegen.platform.cluster.chaos import run_fault, run_undisturbed, verdict
    from edgegen.platform.cluster.local import LocalCluster

    undisturbed = []
    with LocalCluster() as cluster:
        for seed in plan.seeds:
            outcome = run_undisturbed(plan, cluster, seed)
            undisturbed.append(outcome)
            keep({**outcome.to_json(), "came_through": True})
            results.print(f"undisturbed, seed {seed}: mean delay {outcome.delay_text} ({outcome.seconds:.0f} s)")
        for name in faults:
            outcome = run_fault(plan, cluster, name)
            came_through, why = verdict(plan, outcome, undisturbed)
            keep({**outcome.to_json(), "came_through": came_through, "why": why})
            results.print(f"\n{name}: {outcome.done or 'nothing was done'}", soft_wrap=True)
            for notice in outcome.notices:
                results.print(f"  said: {notice}", soft_wrap=True)
            results.print(
                f"  {_word(came_through)}: {outcome.episodes} episodes, mean delay {outcome.delay_text}, {why} "
                f"({outcome.seconds:.0f} s)",
                soft_wrap=True,
            )


def _serve(folder: Path, quick: bool, results: Console, keep: Callable[[Row], None]) -> None:
    """Restart the head under a live service; keeps and shows what came of it."""
    from edgegen.platform.cluster.chaos_head import HeadPlan, restart_head

    outcome = restart_head(HeadPlan(folder, requests=10) if quick else HeadPlan(folder))
    came_through, why = outcome.verdict()
    keep({**outcome.to_json(), "came_through": came_through, "why": why})
    results.print(f"\nhead: {outcome.done}", soft_wrap=True)
    results.print(f"  {_word(came_through)}: {why} ({outcome.seconds:.0f} s)", soft_wrap=True)


def _missing_for_head() -> str:
    """What is missing to restart a head under a live service, or nothing."""
    from edgegen.platform.cluster.with_redis import REDIS_SERVER, find_redis
    from edgegen.platform.commands.live import require_serve_extra

    if find_redis() is None:
        return f"the program '{REDIS_SERVER}' (Debian, Ubuntu: apt-get install {REDIS_SERVER})"
    try:
        require_serve_extra()
    except InputError:
        return "the libraries of the live service: install edgegen[serve]"
    return ""


def _word(came_through: bool) -> str:
    return "came through" if came_through else "FAILED"
