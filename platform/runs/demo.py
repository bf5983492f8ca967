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
from edgegen.platform.figures.plots import plot_comparison, plot_requests
from edgegen.platform.files import draw_or_tell, write_json
from edgegen.platform.ports import free_ports
from edgegen.platform.records.tracking import URI_VARIABLE
from edgegen.platform.run_folder import is_abandoned, take_new
from edgegen.platform.runs.comparison import Comparison, compare
from edgegen.platform.runs.training import TrainRequest, train
from edgegen.platform.screen import activity

if TYPE_CHECKING:
    from edgegen.serve.config import ServiceConfig

SCENARIO = "demo"
SERVICE = "demo"
LABEL = "lad-ts"


@dataclass(frozen=True)
class DemoRequest:
    """What the demonstration does.

    Attributes:
        out: Folder for everything it makes.
        episodes: Training episodes on the demo scenario.
        service_episodes: Training episodes on the servers of the live service.
        evaluation_episodes: Episodes per policy in comparisons.
        pictures: Prompts sent to the service.
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
    pictures: int
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
            policy = _train(load_scenario(SCENARIO), folder / "train", request.episodes, request.seed, notes)
            _heading(notes, "2. Compare it with every rule, on identical arrivals")
            _compare(load_scenario(SCENARIO), policy, folder / "comparison", request, out, notes)
            if request.serve:
                from edgegen.serve.config import load_config
                from edgegen.serve.kinds.registry import training_scenario

                config = load_config(request.service)
                scenario = training_scenario(config)
                _heading(notes, f"3. Train LAD-TS for the {len(config.edges)} edge servers of the live service")
                live = _train(scenario, folder / "service-train", request.service_episodes, request.seed, notes)
                _compare(scenario, live, folder / "service-comparison", request, out, notes)
        if request.serve:
            _heading(notes, "4. Serve: real pictures, scheduled by the trained policy")
            service = config.model_copy(update={"policy": str(live), "seed": request.seed})
            with _pictures_served(service, request, out, notes) as url:
                if request.keep:
                    _summary(request, uri, time.perf_counter() - started, out)
                    out.print(f"\nThe service stays up until Ctrl-C. Try:\n  {curl_line(url)}", soft_wrap=True)
                    threading.Event().wait()
        _summary(request, uri, time.perf_counter() - started, out)


def _train(scenario: WorldScenario, folder: Path, episodes: int, seed: int, notes: Console) -> Path:
    with training_progress(notes) as on_episode:
        result = train(TrainRequest(scenario=scenario, out=folder, episodes=episodes, seed=seed), on_episode)
    if result.interrupted:
        raise KeyboardInterrupt
    notes.print(f"Trained for {episodes} episodes in {result.seconds:.0f} s", soft_wrap=True)
    return result.out


def _compare(
    scenario: WorldScenario, policy: Path, target: Path, request: DemoRequest, out: Console, notes: Console
) -> Comparison:
    reference = kind_of(scenario).reference
    entrants = make_entrants([str(policy), *rules_for(scenario)], [LABEL], reference, scenario, request.seed)
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


@contextmanager
def _pictures_served(config: ServiceConfig, request: DemoRequest, out: Console, notes: Console) -> Iterator[str]:
    """Start the service, send the burst, draw what came back; the service is up for the length of the block."""
    from edgegen.serve.http.client import contact_sheet, demo_prompts, generate_burst
    from edgegen.serve.running import running_service

    with running_service(config, request.port if request.port is not None else free_ports(1)[0]) as url:
        notes.print(f"The service is up at {url}; sending {request.pictures} prompts at once", soft_wrap=True)
        prompts = demo_prompts(request.pictures, request.seed)
        results = generate_burst(url, prompts, concurrency=request.pictures, seed=0)
        served = [(result.server, result.queue_s, result.generation_s) for result in results]
        title = f"{len(results)} prompts at once, placed by the trained policy"
        for draw in (
            lambda: [contact_sheet(results, request.out / "contact-sheet.png")],
            lambda: plot_requests(served, request.out / "requests.png", title),
        ):
            draw_or_tell(draw, lambda text: notes.print(Text(text), soft_wrap=True))
        for edge in config.edges:
            count = sum(result.server == edge.name for result in results)
            out.print(f"{edge.name} (slowdown {edge.slowdown:g}): {count} pictures")
        yield url


def _summary(request: DemoRequest, uri: str, seconds: float, out: Console) -> None:
    known = {
        "learning curve": "train/learning_curve.png",
        "delay plot": "comparison.png",
        "comparison": "comparison.json",
        "trained run": "train",
        "service policy": "service-train",
        "pictures": "contact-sheet.png",
        "live delays": "requests.png",
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
