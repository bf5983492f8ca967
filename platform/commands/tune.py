# SPDX-License-Identifier: Apache-2.0
"""``edgegen tune``: from a rule with constants to a policy folder, with a budget as a learner has one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgegen.envs.core.errors import InputError
from edgegen.platform.commands.options import (
    JsonOption,
    ScenarioOption,
    SeedOption,
    SetOption,
    progress_console,
    refuse_with_resume,
    run_out,
    run_resume,
    write_then_show,
)
from edgegen.platform.defaults import RUNS, TUNING_EPISODES, TUNING_TRIALS, slug
from edgegen.platform.overrides import parse_overrides
from edgegen.platform.process import prefer_one_thread

if TYPE_CHECKING:
    from edgegen.platform.runs.rule_search import Trial
    from edgegen.platform.runs.tuning import TuneResult


def tune(
    context: typer.Context,
    rule: Annotated[
        str | None, typer.Argument(help="A rule with constants: priced-greedy, fleet-rule, history-knapsack, …")
    ] = None,
    scenario: ScenarioOption = "demo",
    budget: Annotated[
        int | None,
        typer.Option("--budget", min=1, max=100_000, help=f"Trials in all.  [default: {TUNING_TRIALS}]"),
    ] = None,
    episodes: Annotated[
        int, typer.Option("--episodes", "-n", min=1, help="Training episodes that every trial plays, all the same.")
    ] = TUNING_EPISODES,
    seed: SeedOption = 0,
    out: Annotated[Path | None, run_out("tuned-RULE-SCENARIO-seedSEED")] = None,
    resume: Annotated[Path | None, run_resume("tuning", "--budget may add trials")] = None,
    settings: SetOption = None,
    json: JsonOption = None,
    tracking: Annotated[bool, typer.Option(help="Record the tuning in MLflow.")] = True,
) -> None:
    """Tune the constants of a rule on training episodes; the result is a policy like a trained one."""
    from edgegen.envs.core.plugins import plugged
    from edgegen.envs.core.scenarios import load_scenario
    from edgegen.platform.files import check_writable_folder, write_json
    from edgegen.platform.runs.rule_search import TuneRequest
    from edgegen.platform.runs.tuning import resume_tuning
    from edgegen.platform.runs.tuning import tune as run

    notes = progress_console()
    prefer_one_thread()
    told = 0

    def on_trial(trials: list[Trial], wanted: int) -> None:
        nonlocal told
        tenths = len(trials) * 10 // wanted
        if tenths > told or len(trials) == 1:
            told = tenths
            best = min(trial.value for trial in trials)
            notes.print(f"trial {len(trials)} of {wanted}, best {best:.4g}, defaults {trials[0].value:.4g}")

    if resume is not None:
        refuse_with_resume(context, {**_FIXED, "settings": "--set"}, "tuning", "--budget")
        result = resume_tuning(resume, budget, tracking, on_trial)
    else:
        if rule is None:
            raise InputError("Which rule is to be tuned? Name one: edgegen tune RULE -s SCENARIO.")
        world = load_scenario(scenario, parse_overrides(settings or []))
        rule = plugged(rule)
        request = TuneRequest(rule, world, budget or TUNING_TRIALS, episodes, seed)
        _ = request.tunable  # named wrongly, it is to be said before a folder is looked at
        folder = out if out is not None else RUNS / f"tuned-{rule}-{slug(world.name)}-seed{seed}"
        check_writable_folder(folder)
        result = run(request, folder, out is None, tracking, on_trial)

    def show() -> None:
        _report(notes, result)
        typer.echo(str(result.out))

    write_then_show([] if json is None else [lambda: write_json(json, _as_json(result))], show)
    if result.interrupted:
        raise typer.Exit(130)


_FIXED = {"rule": "RULE", "scenario": "--scenario", "episodes": "--episodes", "seed": "--seed", "out": "--out"}
"""Options of a tuning that a resumed one keeps."""


def _report(notes: Any, result: TuneResult) -> None:
    """Say what was found, and what to do with it."""
    from edgegen.algorithms.core.registered import how_to_look

    what = "Stopped after" if result.interrupted else "Tuned in"
    notes.print(f"{what} {len(result.trials)} trials, {result.requests} simulated requests ({result.seconds:.0f} s).")
    if result.mlflow_uri is not None:
        notes.print(f"MLflow:   {how_to_look(result.mlflow_uri)}", soft_wrap=True)
    if result.best is None:
        notes.print(f"Continue: {shlex.join(['edgegen', 'tune', '--resume', str(result.out)])}", soft_wrap=True)
        return
    found = result.best.model_dump().items()
    constants = ", ".join(f"{name} {value if isinstance(value, str) else f'{value:.4g}'}" for name, value in found)
    notes.print(f"Kept:     {constants}", soft_wrap=True)
    notes.print(f"On other training episodes: {result.tuned:.4g}, with the defaults {result.default:.4g}.")
    compare = ["edgegen", "compare", str(result.out), "--scenario", str(result.out / "scenario.yaml")]
    notes.print(f"Compare:  {shlex.join(compare)}", soft_wrap=True)


def _as_json(result: TuneResult) -> dict[str, object]:
    """The result as plain values."""
    return {
        "format": "edgegen-tuned-1",
        "out": result.out,
        "policy": result.policy,
        "constants": None if result.best is None else result.best.model_dump(),
        "value": None if result.best is None else result.tuned,
        "default_value": None if result.best is None else result.default,
        "trials": [vars(trial) for trial in result.trials],
        "simulated_requests": result.requests,
        "seconds": result.seconds,
        "interrupted": result.interrupted,
    }
