"""A running fleet and the world that it is: policies serve the same requests live, and in the simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.algorithms.core.catalog import make_policy
from edgegen.envs.core.scenario_files import with_overrides
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.platform.figures.episode_page import episode_page
from edgegen.platform.figures.episode_plot import plot_episode
from edgegen.platform.files import draw_or_tell, write_json, write_text
from edgegen.platform.ports import free_ports
from edgegen.platform.runs.comparison import Comparison, compare
from edgegen.platform.runs.load_test import Entrant, LoadTest, LoadTestRequest, load_test
from edgegen.platform.screen import PlainTable

if TYPE_CHECKING:
    from edgegen.serve.config import ServiceConfig
    from edgegen.serve.http.client import Result
    from edgegen.serve.load.sending import Answered

TRAFFIC: dict[str, Any] = {
    "frames": 4,
    "load": 0.9,
    "bursts": {"calm": 0.5, "burst": 2.0, "mean_calm_s": 8.0, "mean_burst_s": 4.0},
    "popularity": {"exponents": (0.0, 1.0), "every_s": 10.0, "swap_s": 5.0},
}
"""What comes, unless it is said otherwise: short bursts, and models that come and go out of fashion within seconds."""
MOST_PICTURES = 24
"""Pictures of the contact sheet."""
BESIDE = (
    ("utility", 3, 1.0),
    ("late_share", 1, 100.0),
    ("quality", 3, 1.0),
    ("delay_s", 2, 1.0),
    ("p95_delay_s", 2, 1.0),
)
"""What is set beside what was simulated: name, digits after the point, factor."""


class LiveService:
    """A running service and the world that its edges are.

    Args:
        config: The service.
        url: Where it is.

    Attributes:
        world: The world, with the edges as they were measured.
    """

    world: FleetScenario

    def __init__(self, config: ServiceConfig, url: str) -> None:
        from edgegen.serve.operating import Operator

        self.config, self.url = config, url
        self._operator = Operator(url, config)

    def measure(self, traffic: Mapping[str, Any] | None = None) -> FleetScenario:
        """Describe the edges as they are now as a world.

        Args:
            traffic: Fields of the scenario, with dots for their parts, that differ from :data:`TRAFFIC`.

        Raises:
            InputError: If a field is unknown or impossible.
        """
        from edgegen.serve.kinds.registry import training_scenario

        capacities = self._operator.capacities_gcycles_s()
        speed = tuple(capacities[name] for name in self.config.homes)
        known = training_scenario(self.config).model_dump()
        fields = with_overrides({**known, "speed": speed, **TRAFFIC}, dict(traffic or {}), known["name"], FleetScenario)
        self.world = build_scenario(fields, FleetScenario)
        return self.world

    def put_in_charge(self, policy: str) -> None:
        """Let a policy decide from now on, and wait until the edges are idle and have what its cacher wants."""
        self._operator.put_in_charge(policy)
        self._operator.settle()

    def compared(
        self, policies: Mapping[str, str], sequences: int, seed: int, on_sequence: Callable[[str, int], None]
    ) -> LoadTest:
        """Let every policy serve the same sequences; the first one is the reference.

        Args:
            policies: Policies by label.
            sequences: Number of sequences.
            seed: The person's seed.
            on_sequence: Is called with label and number before each.
        """
        from edgegen.serve.load.prompts import prompt_for

        wanted = LoadTestRequest(
            url=self.url,
            scenario=self.world,
            edges=self.config.homes,
            models=tuple(self.config.models),
            painter=prompt_for,
            sequences=sequences,
            seed=seed,
            cloud=next((edge.name for edge in self.config.edges if edge.cloud is not None), None),
        )
        entrants = {
            label: Entrant(policy, make_policy(policy, self.world, seed).information)
            for label, policy in policies.items()
        }
        return load_test(wanted, entrants, next(iter(policies)), self.put_in_charge, on_sequence)

    def simulated(self, policies: Mapping[str, str], sequences: int, seed: int) -> Comparison:
        """Let the same policies play the same sequences in the simulator; the first one is the reference."""
        made = {label: make_policy(policy, self.world, seed) for label, policy in policies.items()}
        return compare(self.world, made, sequences, seed, next(iter(policies)), explore=False)


@contextmanager
def live_service(config: ServiceConfig, port: int | None) -> Iterator[LiveService]:
    """Run a service for the length of a block.

    Args:
        config: The service.
        port: Its port; any free one if None.
    """
    from edgegen.serve.running import running_service

    # One of its own, on this machine and for nobody else.
    config = config.model_copy(update={"keys": None, "tls_certificate": None, "tls_key": None})
    with running_service(config, free_ports(1)[0] if port is None else port) as url:
        yield LiveService(config, url)


def beside(live: Comparison, simulated: Comparison) -> PlainTable:
    """Set what was served beside what was simulated on the same sequences."""
    table = PlainTable(title="Served, and simulated on the same sequences", pad_edge=False, collapse_padding=True)
    table.add_column("policy", no_wrap=True)
    for title in ("utility", "late, %", "quality", "delay, s", "p95, s"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in live.rows:
        other = simulated.row(row.label).results
        cells = (
            f"{factor * row.results[name].mean():.{digits}f}, {factor * other[name].mean():.{digits}f}"
            for name, digits, factor in BESIDE
        )
        table.add_row(row.label, *cells)
    return table


def write_live(test: LoadTest, simulated: Comparison, out: Path, warn: Callable[[str], None]) -> None:
    """Write both comparisons, the first sequence as all served it, and the last policy's pictures of it."""
    from edgegen.serve.http.client import contact_sheet

    write_json(out / "live-comparison.json", test.comparison.to_json())
    write_json(out / "simulated-comparison.json", simulated.to_json())
    write_text(out / "live-schedules.html", episode_page(test.shown))
    draw_or_tell(lambda: plot_episode(test.shown, out / "live-schedules.png"), warn)
    pictures = [_result(answer) for answer in list(test.answers.values())[-1] if answer.png]
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
