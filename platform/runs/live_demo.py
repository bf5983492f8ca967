"""The live part of the demonstration: a tuned rule and a learned policy serve the same requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from edgegen.algorithms.core.catalog import make_policy
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.platform.figures.episode_page import episode_page
from edgegen.platform.figures.episode_plot import plot_episode
from edgegen.platform.files import draw_or_tell, write_json, write_text
from edgegen.platform.ports import free_ports
from edgegen.platform.runs.comparison import Comparison
from edgegen.platform.runs.load_test import Entrant, LoadTest, LoadTestRequest, load_test
from edgegen.platform.runs.rule_search import TuneRequest
from edgegen.platform.runs.training import TrainRequest
from edgegen.platform.runs.tuning import TuneResult, tune
from edgegen.platform.screen import activity

if TYPE_CHECKING:
    from edgegen.serve.config import ServiceConfig
    from edgegen.serve.http.client import Result
    from edgegen.serve.load.sending import Answered

RIVALS = ("price-greedy", "earliest")
RULE, TUNED, LEARNED = "price-greedy", "tuned rule", "learned"
EPISODES_PER_TRIAL = 16
MOST_PICTURES = 24
"""Pictures of the contact sheet."""
TRAFFIC: dict[str, Any] = {
    "frames": 6,
    "load": 0.9,
    "bursts": {"calm": 0.5, "burst": 2.0, "mean_calm_s": 8.0, "mean_burst_s": 4.0},
    "popularity": {"exponents": (0.0, 1.0), "every_s": 10.0, "swap_s": 5.0},
}
"""Traffic of the demonstration: short bursts, and models that come and go out of fashion within seconds."""


@dataclass(frozen=True)
class LiveRequest:
    """What the live part does.

    Attributes:
        out: Folder of the demonstration.
        config: The service.
        trials: Sets of constants that the rule is tuned with.
        episodes: Training episodes.
        sequences: Sequences of requests that each policy serves.
        seed: Root of all random numbers.
        port: Port of the service; any free one if None.
    """

    out: Path
    config: ServiceConfig
    trials: int
    episodes: int
    sequences: int
    seed: int
    port: int | None


def service_world(config: ServiceConfig, capacities_gcycles_s: Mapping[str, float]) -> FleetScenario:
    """Describe the edges as they were measured as a world, under the traffic of the demonstration."""
    from edgegen.serve.kinds.registry import training_scenario

    world = training_scenario(config).model_dump()
    speed = tuple(capacities_gcycles_s[edge.name] for edge in config.edges if edge.cloud is None)
    return build_scenario({**world, "speed": speed, **TRAFFIC}, FleetScenario)


class LiveDemo:
    """A running service and the policies that are made for it.

    Args:
        request: What is wanted.
        url: The service.
        notes: Console for progress.
    """

    def __init__(self, request: LiveRequest, url: str, notes: Console) -> None:
        from edgegen.serve.operating import Operator

        self.request, self.url, self._notes = request, url, notes
        self._operator = Operator(url, request.config)
        self.world = service_world(request.config, self._operator.capacities_gcycles_s())

    def tuned(self) -> TuneResult:
        """Search the constants of the rule for these edges."""
        request = TuneRequest(RULE, self.world, self.request.trials, EPISODES_PER_TRIAL, self.request.seed)
        with activity(self._notes) as say:
            folder = self.request.out / "service-tuned"
            return tune(
                request, folder, False, True, lambda done, all_: say(f"{len(done)} of {all_} sets of constants")
            )

    def training(self, tuned: TuneResult) -> TrainRequest:
        """Describe the training of the three roles: it begins at the tuned rule."""
        assert tuned.best is not None
        return TrainRequest(
            scenario=self.world,
            out=self.request.out / "service-train",
            algorithm="fleet",
            preset="joint",
            overrides={"prices": tuned.best.model_dump()},
            episodes=self.request.episodes,
            seed=self.request.seed,
        )

    def compared(self, policies: Mapping[str, Path]) -> LoadTest:
        """Let every policy serve the same sequences; the first one is the reference.

        Args:
            policies: Policy folders by label.
        """
        from edgegen.serve.load.prompts import prompt_for

        config = self.request.config
        entrants = {
            label: Entrant(str(folder), make_policy(str(folder), self.world, self.request.seed).information)
            for label, folder in policies.items()
        }
        wanted = LoadTestRequest(
            url=self.url,
            scenario=self.world,
            edges=config.homes,
            models=tuple(config.models),
            painter=prompt_for,
            sequences=self.request.sequences,
            seed=self.request.seed,
            cloud=next((edge.name for edge in config.edges if edge.cloud is not None), None),
        )
        with activity(self._notes) as say:
            return load_test(
                wanted,
                entrants,
                next(iter(policies)),
                self.put_in_charge,
                lambda label, number: say(f"Sequence {number + 1} of {wanted.sequences}, served by the {label}"),
            )

    def put_in_charge(self, policy: str) -> None:
        """Let a policy decide from now on, and wait until the edges are idle and have what its cacher wants."""
        self._operator.put_in_charge(policy)
        self._operator.settle()


def better(comparison: Comparison) -> str:
    """Label of the policy that stays: the learned one, unless it is behind the rule beyond the interval."""
    row = comparison.row(LEARNED)
    return TUNED if row.difference.low > 0 else LEARNED


def draw_live(test: LoadTest, out: Path, warn: Callable[[str], None]) -> None:
    """Write the comparison, both schedules side by side, and a contact sheet of what the learned policy served."""
    from edgegen.serve.http.client import contact_sheet

    write_json(out / "live-comparison.json", test.comparison.to_json())
    write_text(out / "live-schedules.html", episode_page(test.shown))
    pictures = [_result(answer) for answer in test.answers[LEARNED] if answer.png]
    draw_or_tell(lambda: plot_episode(test.shown, out / "live-schedules.png"), warn)
    if pictures:
        draw_or_tell(lambda: [contact_sheet(pictures[:MOST_PICTURES], out / "contact-sheet.png")], warn)


def _result(answer: Answered) -> Result:
    from edgegen.serve.http.client import Result

    asked = answer.asked
    return Result(
        prompt=asked.prompt,
        server=answer.edge,
        home=asked.home,
        queue_s=answer.queue_s,
        generation_s=answer.generation_s,
        decision_s=0.0,
        total_s=answer.total_s,
        round_trip_s=answer.delay_s,
        steps=answer.steps,
        seed=asked.seed,
        fallback=answer.fallback,
        png=answer.png,
        model=asked.model,
        load_s=answer.load_s,
    )


@contextmanager
def live_service(request: LiveRequest, notes: Console) -> Iterator[LiveDemo]:
    """Start the service with the rule in charge; it is up for the length of the block."""
    from edgegen.serve.running import running_service

    port = request.port if request.port is not None else free_ports(1)[0]
    with running_service(request.config.model_copy(update={"policy": RULE, "seed": request.seed}), port) as url:
        notes.print(f"The service is up at {url}", soft_wrap=True)
        yield LiveDemo(request, url, notes)
