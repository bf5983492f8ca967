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
    from edgegen.platform.cluster.chaos import ChaosPlan

Row = dict[str, Any]


def chaos(
    faults: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FAULT]...", help="runner, learner, node, driver, disk, head; all if left out."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the runs.  [default: a new runs/chaos]")] = Path(
        "runs/chaos"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Short trainings and one undisturbed seed.")] = False,
    json: JsonOption = None,
) -> None:
    """Kill parts of a local Ray cluster while it trains, or serves; tells what was done, said, and how it ended."""
    from edgegen.platform.cluster.chaos import FAULTS, HEAD, ChaosPlan, check_faults
    from edgegen.platform.commands.train import free_folder
    from edgegen.platform.files import check_writable_file, check_writable_folder, write_json

    notes, results = progress_console(), console()
    wanted = list(faults or [*FAULTS, HEAD])
    check_faults(wanted)
    if HEAD in wanted and (missing := _missing_for_head()):
        if faults:
            raise InputError(f"The fault '{HEAD}' needs {missing}.")
        wanted.remove(HEAD)
        notes.print(f"Leaving out '{HEAD}': it needs {missing}.", soft_wrap=True)
    if json is not None:
        check_writable_file(json)
    folder = free_folder(out)
    check_writable_folder(folder)
    prefer_one_thread()
    quiet_libraries()
    plan = ChaosPlan(folder)
    if quick:
        plan = ChaosPlan(folder, episodes=48, checkpoint_every=16, strike_at=24, seeds=(0,), evaluation_episodes=5)
    rows: list[Row] = []
    if trained := [name for name in wanted if name != HEAD]:
        notes.print("Starting a Ray cluster of a head and two worker nodes")
        rows += _train(plan, trained, results)
    if HEAD in wanted:
        notes.print("Starting a Ray cluster with Redis, and the service on it")
        rows.append(_serve(folder / HEAD, quick, results))
    if json is not None:
        write_json(json, {"format": "edgegen-chaos-1", "outcomes": rows})
    if failed := [row["fault"] for row in rows if not row["came_through"]]:
        raise InputError(f"Not everything came through: {', '.join(failed)}.")


def _train(plan: ChaosPlan, faults: list[str], results: Console) -> list[Row]:
    """Break trainings; returns what came of each."""
    from edgegen.platform.cluster.chaos import run_fault, run_undisturbed, verdict
    from edgegen.platform.cluster.local import LocalCluster

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


def _serve(folder: Path, quick: bool, results: Console) -> Row:
    """Restart the head under a live service; returns what came of it."""
    from edgegen.platform.cluster.chaos_head import HeadPlan, restart_head

    outcome = restart_head(HeadPlan(folder, requests=10) if quick else HeadPlan(folder))
    came_through, why = outcome.verdict()
    results.print(f"\nhead: {outcome.done}", soft_wrap=True)
    results.print(f"  {_word(came_through)}: {why} ({outcome.seconds:.0f} s)", soft_wrap=True)
    return {**outcome.to_json(), "came_through": came_through, "why": why}


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
