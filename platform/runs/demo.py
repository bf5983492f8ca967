# SPDX-License-Identifier: Apache-2.0
"""The demonstration: train, compare, serve with real pictures, and say where everything is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from edgegen.algorithms.core.registered import how_to_look
from edgegen.algorithms.core.rulebook import rules_for
from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.algorithms.store_urls import database_url
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.core.world import WorldScenario
from edgegen.platform.commands.compare import make_entrants
from edgegen.platform.commands.live import curl_line, require_serve_extra
from edgegen.platform.commands.train import training_progress
from edgegen.platform.figures.plots import plot_comparison
from edgegen.platform.files import draw_or_tell, write_json
from edgegen.platform.records.tracking import URI_VARIABLE
from edgegen.platform.run_folder import is_abandoned, take_new
from edgegen.platform.runs.comparison import Comparison, compare
from edgegen.platform.runs.training import TrainRequest, train
from edgegen.platform.screen import activity

if TYPE_CHECKING:
    pass

SCENARIO = "demo"
SERVICE = "fleet"
LABEL = "lad-ts"


@dataclass(frozen=True)
class DemoRequest:
    """What the demonstration does.

    Attributes:
        out: Folder for everything it makes.
        episodes: Training episodes on the demo scenario.
        service_episodes: Training episodes on the servers of the live service.
        evaluation_episodes: Episodes per policy in comparisons.
        trials: Sets of constants that the rule of the live service is tuned with.
        sequences: Sequences of requests that each policy serves.
        seed: Root of all random numbers.
        serve: Whether to start the service.
        keep: Leave the service up at the end until Ctrl-C.
        port: Port of the service; any free one if None.
        service: Config of the service.
        numbered: Whether to take ``out`` with the first free number behind it if there is anything of that name.
    """

    out: Path
    episodes: int
    service_episodes: int
    evaluation_episodes: int
    trials: int
    sequences: int
    seed: int
    serve: bool
    keep: bool
    port: int | None
    service: str = SERVICE
    numbered: bool = False


def run_demo(request: DemoRequest, out: Console, notes: Console) -> None:
    """Run the demonstration; results go to one console, progress to the other.

    Raises:
        InputError: If the folder holds something already or can not be written, or the service can not start.
        KeyboardInterrupt: If it was asked to stop.
    """
    folder = request.out
    if not request.numbered and folder.exists() and (not folder.is_dir() or _is_in_use(folder)):
        raise InputError(f"Output folder '{folder}' holds something already; choose another --out.")
    if request.serve:
        require_serve_extra()  # now, not after minutes of training
    with take_new(folder, "demonstration", request.numbered) as taken:
        try:
            _demonstrate(replace(request, out=taken.path), out, notes)
        except BaseException:
            if not _is_in_use(taken.path):
                taken.give_back([])
            raise


def _is_in_use(folder: Path) -> bool:
    return any(folder.iterdir()) and not is_abandoned(folder, [])


def _demonstrate(request: DemoRequest, out: Console, notes: Console) -> None:
    folder = request.out
    started = time.perf_counter()
    with _tracked_in(folder) as uri:
        with ray_session():
            _heading(notes, f"1. Train LAD-TS on '{SCENARIO}'")
            world = load_scenario(SCENARIO)
            policy = _trained(
                TrainRequest(scenario=world, out=folder / "train", episodes=request.episodes, seed=request.seed), notes
            )
            _heading(notes, "2. Compare it with every rule, on identical arrivals")
            _compare(world, [str(policy), *rules_for(world)], folder / "comparison", request, out, notes, [LABEL])
        if request.serve:
            _serve(request, uri, started, out, notes)
        _summary(request, uri, time.perf_counter() - started, out)


def _trained(request: TrainRequest, notes: Console) -> Path:
    with training_progress(notes) as on_episode:
        result = train(request, on_episode)
    if result.interrupted:
        raise KeyboardInterrupt
    notes.print(f"Trained for {request.episodes} episodes in {result.seconds:.0f} s", soft_wrap=True)
    return result.out


def _compare(
    scenario: WorldScenario,
    policies: list[str],
    target: Path,
    request: DemoRequest,
    out: Console,
    notes: Console,
    labels: list[str],
) -> Comparison:
    reference = kind_of(scenario).reference
    entrants = make_entrants(policies, labels, reference, scenario, request.seed)
    with activity(notes) as say:
        result = compare(
            scenario,
            entrants,
            request.evaluation_episodes,
            request.seed,
            on_policy=lambda label: say(f"Playing {request.evaluation_episodes} episodes with {label}"),
        )
    write_json(target.with_suffix(".json"), result.to_json())
    draw_or_tell(
        lambda: plot_comparison(result, target.with_suffix(".png")),
        lambda text: notes.print(Text(text), soft_wrap=True),
    )
    out.print(result.table())
    return result


def _serve(request: DemoRequest, uri: str, started: float, out: Console, notes: Console) -> None:
    """Start the service, tune and train for its edges, let both serve the same requests, and keep the better one."""
    from edgegen.platform.runs import live_demo
    from edgegen.platform.runs.live_comparison import beside, live_service, write_live
    from edgegen.serve.config import load_config

    folder, seed = request.out, request.seed
    config = load_config(request.service, {"policy": live_demo.RULE, "seed": seed})
    wanted = live_demo.LiveRequest(folder, config, request.trials, request.service_episodes, seed)
    _heading(notes, f"3. Serve {len(config.models)} models from {len(config.edges)} unequal edge servers")
    with live_service(config, request.port) as live:
        speeds = zip(config.homes, live.measure().speed, strict=True)
        measured = ", ".join(f"{name} {speed:.2f} Gcycle/s" for name, speed in speeds)
        notes.print(f"The service is up at {live.url}; measured: {measured}", soft_wrap=True)
        _heading(notes, "4. Tune the rule for these edges, and train caching, steps and routing from there on")
        rule = live_demo.tuned(wanted, live, notes)
        trained = _trained(live_demo.training(wanted, live, rule), notes)
        policies = {live_demo.TUNED: str(rule.out), live_demo.LEARNED: str(trained)}
        entrants = [*policies.values(), *live_demo.RIVALS]
        _compare(live.world, entrants, folder / "service-comparison", request, out, notes, list(policies))
        _heading(notes, "5. Let both serve the same requests, with real pictures")
        with activity(notes) as say:
            test = live.compared(policies, request.sequences, seed, lambda name, n: say(f"Sequence {n + 1}, {name}"))
        simulated = live.simulated(policies, request.sequences, seed)
        write_live(test, simulated, folder, lambda text: notes.print(Text(text), soft_wrap=True))
        out.print(test.comparison.table())
        out.print(beside(test.comparison, simulated))
        label = live_demo.better(test.comparison)
        live.put_in_charge(policies[label])
        why = "" if label == live_demo.LEARNED else ", because the learned policy is behind it"
        out.print(f"In charge: the {label}{why}.")
        if request.keep:
            _summary(request, uri, time.perf_counter() - started, out)
            out.print(f"\nThe service stays up until Ctrl-C. Try:\n  {curl_line(live.url)}", soft_wrap=True)
            threading.Event().wait()


def _summary(request: DemoRequest, uri: str, seconds: float, out: Console) -> None:
    known = {
        "learning curve": "train/learning_curve.png",
        "delay plot": "comparison.png",
        "comparison": "comparison.json",
        "trained run": "train",
        "service's policy": "service-train",
        "service's rule": "service-tuned",
        "live comparison": "live-comparison.json",
        "both schedules": "live-schedules.png",
        "to look around": "live-schedules.html",
        "pictures": "contact-sheet.png",
    }
    out.print(f"\nDone in {seconds:.0f} s. Everything is in {request.out}:", soft_wrap=True)
    for what, name in known.items():
        if (request.out / name).exists():
            out.print(f"  {what + ':':<16} {request.out / name}", soft_wrap=True)
    out.print(f"  {'tracked runs:':<16} {how_to_look(uri)}", soft_wrap=True)


@contextmanager
def _tracked_in(folder: Path) -> Iterator[str]:
    """Track in the demonstration's own folder, unless the environment names another place."""
    before = os.environ.get(URI_VARIABLE)
    uri = before or database_url(folder / "mlflow.db")
    os.environ[URI_VARIABLE] = uri
    try:
        yield uri
    finally:
        if before is None:
            del os.environ[URI_VARIABLE]


def _heading(notes: Console, text: str) -> None:
    notes.print(Text(f"\n{text}", style="bold"), soft_wrap=True)
