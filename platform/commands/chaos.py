"""``edgegen chaos``: break a training on purpose and see whether it comes through."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from edgegen.envs.errors import InputError
from edgegen.platform.commands.options import JsonOption, console, progress_console
from edgegen.platform.process import prefer_one_thread, quiet_libraries

if TYPE_CHECKING:
    from edgegen.platform.chaos import ChaosPlan

Row = dict[str, Any]


def chaos(
    faults: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FAULT]...", help="runner, learner, node, driver, disk; all if left out."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the runs.  [default: a new runs/chaos]")] = Path(
        "runs/chaos"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Short trainings and one undisturbed seed.")] = False,
    json: JsonOption = None,
) -> None:
    """Kill parts of a local Ray cluster while it trains; tells what was done, said, and how it ended."""
    from edgegen.platform.chaos import FAULTS, ChaosPlan, check_faults
    from edgegen.platform.commands.train import free_folder
    from edgegen.platform.files import check_writable_file, check_writable_folder, write_json

    notes, results = progress_console(), console()
    wanted = list(faults or FAULTS)
    check_faults(wanted)
    if json is not None:
        check_writable_file(json)
    folder = free_folder(out)
    check_writable_folder(folder)
    prefer_one_thread()
    quiet_libraries()
    plan = ChaosPlan(folder)
    if quick:
        plan = ChaosPlan(folder, episodes=48, checkpoint_every=16, strike_at=24, seeds=(0,), evaluation_episodes=5)
    notes.print("Starting a Ray cluster of a head and two worker nodes")
    rows = _train(plan, wanted, results)
    if json is not None:
        write_json(json, {"format": "edgegen-chaos-1", "outcomes": rows})
    if failed := [row["fault"] for row in rows if not row["came_through"]]:
        raise InputError(f"The training did not come through: {', '.join(failed)}.")


def _train(plan: ChaosPlan, faults: list[str], results: Console) -> list[Row]:
    """Break trainings; returns what came of each."""
    from edgegen.platform.chaos import run_fault, run_undisturbed, verdict
    from edgegen.platform.cluster_local import LocalCluster

    rows, undisturbed = [], []
    with LocalCluster() as cluster:
        for seed in plan.seeds:
            outcome = run_undisturbed(plan, cluster, seed)
            undisturbed.append(outcome)
            rows.append({**outcome.to_json(), "came_through": True})
            results.print(f"undisturbed, seed {seed}: mean delay {outcome.delay_text} ({outcome.seconds:.0f} s)")
        for name in faults:
            outcome = run_fault(plan, cluster, name)
            came_through, why = verdict(plan, outcome, undisturbed)
            rows.append({**outcome.to_json(), "came_through": came_through, "why": why})
            results.print(f"\n{name}: {outcome.done or 'nothing was done'}", soft_wrap=True)
            for notice in outcome.notices:
                results.print(f"  said: {notice}", soft_wrap=True)
            results.print(
                f"  {_word(came_through)}: {outcome.episodes} episodes, mean delay {outcome.delay_text}, {why} "
                f"({outcome.seconds:.0f} s)",
                soft_wrap=True,
            )
    return rows


def _word(came_through: bool) -> str:
    return "came through" if came_through else "FAILED"
