# SPDX-License-Identifier: Apache-2.0
"""``edgegen train``: from a scenario to a trained policy."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from edgegen.envs.core.errors import InputError
from edgegen.platform.commands.options import (
    JsonOption,
    SeedOption,
    SetOption,
    activity,
    progress_console,
    refuse_with_resume,
    run_out,
    run_resume,
    write_then_show,
)
from edgegen.platform.defaults import RUNS, TRAINING_EPISODES, slug
from edgegen.platform.overrides import parse_overrides, split_overrides
from edgegen.platform.process import prefer_one_thread, quiet_libraries

if TYPE_CHECKING:
    from edgegen.platform.records.model_registry import Registration
    from edgegen.platform.runs.training import EpisodeReport, TrainResult

    _Start = Callable[[Callable[[EpisodeReport], None], Callable[[str], None]], TrainResult]


class Placement(StrEnum):
    """Where remote processes go."""

    PACK = "pack"
    SPREAD = "spread"


_Cluster = tuple[str | None, float | None, int]
"""Address, seconds to wait for room, and restarts."""


def train(
    context: typer.Context,
    algorithm: Annotated[str, typer.Argument(help="A method.")] = "ladts",
    scenario: Annotated[
        str | None,
        typer.Option(
            "--scenario",
            "-s",
            metavar="NAME",
            help="Shipped scenario, or the path of a .yaml file.  [default: that of the method's kind of world]",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Preset of the method; one that it does not have, such as ?, is answered with all of them.  "
            "[default: the method's]"
        ),
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option("--episodes", "-n", min=1, help=f"Episodes in total.  [default: {TRAINING_EPISODES}]"),
    ] = None,
    seed: SeedOption = 0,
    out: Annotated[Path | None, run_out("ALGORITHM-PRESET-SCENARIO-seedSEED")] = None,
    resume: Annotated[Path | None, run_resume("run", "its own settings hold")] = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, metavar="N", help="Episodes between checkpoints.")] = 50,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Ray cluster to use: auto on one of its machines; a private one unless given."
        ),
    ] = None,
    num_env_runners: Annotated[
        int, typer.Option(min=0, max=1024, help="Remote env runners; 0 plays in this process.")
    ] = 0,
    num_learners: Annotated[
        int,
        typer.Option(
            min=0, max=256, help="Remote learners, each with a whole batch_size of its own; 0 learns in this process."
        ),
    ] = 0,
    cpus_per_env_runner: Annotated[float, typer.Option(min=0.001, max=1024, help="CPUs that one reserves.")] = 1.0,
    cpus_per_learner: Annotated[float, typer.Option(min=0.001, max=1024, help="CPUs that one reserves.")] = 1.0,
    gpus_per_learner: Annotated[
        float, typer.Option(min=0, max=64, help="GPUs of a remote learner; fractions share one.")
    ] = 0.0,
    placement: Annotated[
        Placement, typer.Option(help="Remote processes on few nodes (pack) or over many (spread).")
    ] = Placement.PACK,
    fragment_length: Annotated[
        int,
        typer.Option(
            min=1,
            max=100_000,
            help="Slots (ladts) or frames (t2drl) that every env runner plays between two rounds of updates.",
        ),
    ] = 1,
    asynchronous: Annotated[
        bool,
        typer.Option(
            "--asynchronous/--no-asynchronous",
            help="Env runners play and learners learn without taking turns: faster on many cores, not repeatable. At "
            "least one remote process of each.",
        ),
    ] = False,
    staleness: Annotated[
        float,
        typer.Option(
            min=2, max=1_000, help="With --asynchronous: how old weights may get, in fragments of every env runner."
        ),
    ] = 4.0,
    replay_shards: Annotated[
        int,
        typer.Option(
            min=0,
            max=1_024,
            help="With --asynchronous: processes that keep the replay; 0 is one per six env runners of a host.",
        ),
    ] = 0,
    wait: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Wait this long for room, for a cluster that grows.  [default: 60 s, and not at all for what an idle "
            "cluster could not hold]",
        ),
    ] = None,
    max_restarts: Annotated[
        int,
        typer.Option(
            min=0, help="Restarts from the latest checkpoint when parts of the cluster are lost, before giving up."
        ),
    ] = 3,
    settings: SetOption = None,
    json: JsonOption = None,
    tracking: Annotated[bool, typer.Option(help="Record the run in MLflow.")] = True,
    register: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Register the policy in MLflow; it becomes champion if it is better than the champion and the best "
            "tuned rule.",
        ),
    ] = None,
    bar: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            help="With --register: what it has to be better than.  [default: the best rule, tuned with as many "
            "training episodes]",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --register: make it champion in any case, and say so in the registry.")
    ] = False,
) -> None:
    """Train a scheduler; Ctrl-C finishes the episode, saves and stops."""
    from edgegen.platform.files import write_json

    _refuse_gate(register, bar, force, tracking)
    if resume is not None:
        fixed = {"algorithm": "ALGORITHM", "scenario": "--scenario", "preset": "--preset", "seed": "--seed"}
        fixed |= {"out": "--out", "checkpoint_every": "--checkpoint-every", "settings": "--set"}
        refuse_with_resume(context, fixed, "run", "--episodes and the processes of the cluster")
    cluster = (address, wait, max_restarts)
    processes = {
        "num_env_runners": num_env_runners,
        "num_learners": num_learners,
        "cpus_per_env_runner": cpus_per_env_runner,
        "cpus_per_learner": cpus_per_learner,
        "gpus_per_learner": gpus_per_learner,
        "placement": placement.value,
        "fragment_length": fragment_length,
        "asynchronous": asynchronous,
        "staleness": staleness,
        "replay_shards": replay_shards,
    }
    start = (
        _resumed(resume, episodes, cluster, _given(context, processes), tracking)
        if resume is not None
        else _fresh(
            algorithm, scenario, preset, episodes or TRAINING_EPISODES, seed, out, processes, checkpoint_every,
            cluster, settings, tracking, bar,
        )
    )  # fmt: skip
    notes = progress_console()
    prefer_one_thread()
    with training_progress(notes) as on_episode:
        result = start(on_episode, lambda sentence: notes.print(sentence, soft_wrap=True))

    def show() -> None:
        report_training(notes, result)
        typer.echo(str(result.out))

    write_then_show([] if json is None else [lambda: write_json(json, training_json(result))], show)
    if result.interrupted:
        raise typer.Exit(130)
    if register is not None:
        registered = _register(notes, result, register, bar, force)
        notes.print(f"{registered.uri}, version {registered.version}. {registered.reason}", soft_wrap=True)


def _refuse_gate(register: str | None, bar: str | None, force: bool, tracking: bool) -> None:
    """Refuse options that mean nothing without others, and names that are none, before anything is trained."""
    if register is None:
        if bar is not None or force:
            raise InputError(f"{'--bar' if bar is not None else '--force'} means nothing without --register MODEL.")
        return
    if not tracking:
        raise InputError("--register needs MLflow's registry; leave --no-tracking out.")
    if not register or any(letter in register for letter in "/:@") or not register.isprintable():
        raise InputError(
            f"--register is '{register}', but must be a name without '/', ':' and '@', of characters that can be seen."
        )


def _register(notes: Console, result: TrainResult, name: str, bar: str | None, force: bool) -> Registration:
    from edgegen.platform.runs.registering import register_run

    with activity(notes, "Registering the policy") as say:
        return register_run(result.out, name, bar, force, say)


def _given(context: typer.Context, values: dict[str, Any]) -> dict[str, Any]:
    """Those of the values that the person asked for."""
    sources = {name: context.get_parameter_source(name) for name in values}
    return {name: value for name, value in values.items() if (source := sources[name]) and source.name == "COMMANDLINE"}


def _fresh(
    algorithm: str,
    scenario_name: str | None,
    preset_name: str | None,
    episodes: int,
    seed: int,
    out: Path | None,
    processes: dict[str, Any],
    checkpoint_every: int,
    cluster: _Cluster,
    settings: list[str] | None,
    tracking: bool,
    bar: str | None,
) -> _Start:
    """Check a new run before anything heavy is loaded; returns what starts it."""
    from edgegen.algorithms.methods.registry import find_method
    from edgegen.platform.cluster.processes import make_processes
    from edgegen.platform.files import check_writable_folder

    learner = find_method(algorithm)
    algorithm = learner.name  # what names a plugin is longer
    preset = learner.default_preset if preset_name is None else preset_name
    for_scenario, for_algorithm = split_overrides(
        parse_overrides(settings or []), set(learner.scenario.model_fields) - {"kind"}, learner.settings.model_fields
    )
    scenario = learner.load_scenario(learner.default_scenario if scenario_name is None else scenario_name, for_scenario)
    learner.make_settings(preset, for_algorithm)
    made = make_processes(**processes)
    folder = out if out is not None else RUNS / f"{algorithm}-{preset}-{slug(scenario.name)}-seed{seed}"
    check_writable_folder(folder)
    if bar is not None:
        from edgegen.algorithms.core.catalog import make_policy

        make_policy(bar, scenario, seed)  # after hours of training is too late to say that there is none

    def start(on_episode: Callable[[EpisodeReport], None], on_notice: Callable[[str], None]) -> TrainResult:
        from edgegen.platform.runs.training import ClusterUse, Listener, TrainRequest
        from edgegen.platform.runs.training import train as run

        request = TrainRequest(
            scenario=scenario,
            out=folder,
            numbered=out is None,
            algorithm=algorithm,
            preset=preset,
            overrides=for_algorithm,
            scenario_overrides=for_scenario,
            episodes=episodes,
            seed=seed,
            processes=made,
            checkpoint_every=checkpoint_every,
            cluster=ClusterUse(*cluster),
            tracking=tracking,
        )
        return run(request, Listener(on_episode, on_notice))

    return start


def _resumed(
    folder: Path, episodes: int | None, cluster: _Cluster, processes: dict[str, Any], tracking: bool
) -> _Start:
    def start(on_episode: Callable[[EpisodeReport], None], on_notice: Callable[[str], None]) -> TrainResult:
        from edgegen.platform.runs.training import ClusterUse, Listener, resume

        return resume(folder, episodes, Listener(on_episode, on_notice), ClusterUse(*cluster), tracking, processes)

    return start


@contextmanager
def training_progress(notes: Console) -> Iterator[Callable[[EpisodeReport], None]]:
    """Show episode, recent result and time left while training; yields what to call after every episode.

    A terminal gets a live bar, a log file ten lines in all.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[recent]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    quiet_libraries()
    tenths = 0
    with Progress(*columns, console=notes, disable=not notes.is_interactive) as progress:
        bar = progress.add_task("starting", total=None, recent="")

        def on_episode(report: EpisodeReport) -> None:
            nonlocal tenths
            recent = "" if math.isnan(report.recent) else f"{report.label}, last 10: {report.recent:.3f}"
            progress.update(bar, description="episode", completed=report.episode, total=report.episodes, recent=recent)
            if not notes.is_interactive and report.episode * 10 // report.episodes > tenths:
                tenths = report.episode * 10 // report.episodes
                notes.print(f"episode {report.episode} of {report.episodes}, {recent}")

        yield on_episode


def report_training(notes: Console, result: TrainResult) -> None:
    """Say where the run is and what to do with it."""
    from edgegen.algorithms.core.registered import how_to_look

    done = len(next(iter(result.episodes.values()), []))
    what = "Stopped after" if result.interrupted else "Trained for"
    notes.print(f"{what} {done} episodes ({result.seconds:.0f} s); the run is in {result.out}", soft_wrap=True)
    if (old := result.asynchronous) is not None:
        notes.print(
            f"Weights were {old['staleness_updates']:,.0f} updates old on average, "
            f"{old['staleness_updates_max']:,.0f} at most ({old['staleness_slots']:,.0f} and "
            f"{old['staleness_slots_max']:,.0f} slots).",
            soft_wrap=True,
        )
    if result.mlflow_uri is not None:
        notes.print(f"MLflow:   {how_to_look(result.mlflow_uri)}", soft_wrap=True)
    if result.interrupted:
        again = shlex.join(["edgegen", "train", "--resume", str(result.out)])
        notes.print(f"Continue: {again}", soft_wrap=True)
    entrants = [str(result.out), *result.rivals]
    compare = shlex.join(["edgegen", "compare", *entrants, "--scenario", str(result.out / "scenario.yaml")])
    notes.print(f"Compare:  {compare}", soft_wrap=True)


def training_json(result: TrainResult) -> dict[str, object]:
    """Return a training result as plain values."""
    from edgegen.envs.urls import shown

    return {
        "format": "edgegen-training-1",
        "out": result.out,
        "policy": result.policy,
        "episodes": result.episodes,
        "seconds": result.seconds,
        "cpu_seconds": result.cpu_seconds,
        "interrupted": result.interrupted,
        "asynchronous": result.asynchronous,
        "mlflow_run_id": result.mlflow_run_id,
        "mlflow_uri": None if result.mlflow_uri is None else shown(result.mlflow_uri),
    }
