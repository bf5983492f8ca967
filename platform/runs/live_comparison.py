# SPDX-License-Identifier: Apache-2.0
"""A running fleet and the world that it is: policies serve the same requests live, and in the simulator."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.algorithms.core.catalog import make_policy
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import Array
from edgegen.envs.core.scenario_files import with_overrides
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.platform.figures.episode_page import episode_page
from edgegen.platform.figures.episode_plot import plot_episode
from edgegen.platform.figures.plots import plot_comparison, plot_delays
from edgegen.platform.files import draw_or_tell, write_json, write_text
from edgegen.platform.ports import free_ports
from edgegen.platform.runs.comparison import Comparison, compare
from edgegen.platform.runs.evaluation import Results
from edgegen.platform.runs.load_test import Entrant, LoadTest, LoadTestRequest, load_test
from edgegen.platform.screen import PlainTable
from edgegen.platform.traces.recording import as_fast_as_it_was

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
POISSON, BURSTY = "poisson", "bursty"
ARRIVALS: dict[str, dict[str, Any]] = {POISSON: {"bursts": None}, BURSTY: {"bursts": TRAFFIC["bursts"]}}
"""Arrivals by name: each by itself, and in bursts."""
TIMED_S = 10.0
"""Time in which idle edges have timed themselves: while they start, all of them compute, s."""
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
SERVED: tuple[tuple[str, Callable[[Results], Array], int], ...] = (
    ("in time, %", lambda results: 100 * (1 - results["late_share"] - results["refused_share"]), 1),
    ("in time, per s", lambda results: results["goodput_per_s"], 2),
    ("p50, s", lambda results: results["p50_delay_s"], 2),
    ("p95, s", lambda results: results["p95_delay_s"], 2),
    ("p99, s", lambda results: results["p99_delay_s"], 2),
    ("quality", lambda results: results["quality"], 3),
)
"""What is told of what was served: title, values of the sequences, digits after the point."""


def world_of(
    config: ServiceConfig, speed: Sequence[float], arrivals: str | None, traffic: Mapping[str, Any] | None = None
) -> FleetScenario:
    """Describe a service and what is sent to it as a world.

    Args:
        config: The service.
        speed: Speeds of its edges.
        arrivals: A key of :data:`ARRIVALS`, or a trace: its name, or the path of a file or folder; :data:`TRAFFIC` if
            None. A trace of this service's own models is played as it came, and any other by popularity.
        traffic: Fields of the scenario, with dots for their parts, that differ from that.

    Raises:
        InputError: If a field is unknown or impossible, or there is no such trace.
    """
    from edgegen.envs.fleet.recorded import Recorded, read_content
    from edgegen.serve.kinds.registry import training_scenario

    known = training_scenario(config).model_dump()
    models, changes = tuple(config.models), dict(traffic or {})
    own = False
    coming = ARRIVALS.get(arrivals or BURSTY)
    if coming is None:
        assert arrivals is not None
        try:
            content = read_content(arrivals)
        except InputError as error:
            raise InputError(f"{error} Arrivals are {' or '.join(ARRIVALS)}, too.") from None
        names = Recorded(trace=arrivals, content=f"{arrivals}:{content}").requests.names
        own = bool(names) and set(names) <= set(models)
        coming = {"bursts": None, "recorded": {"trace": arrivals, "names": models if own else ()}}
    fields = {**known, "speed": tuple(speed), **TRAFFIC, **coming}
    world = build_scenario(with_overrides(fields, changes, known["name"], FleetScenario), FleetScenario)
    return as_fast_as_it_was(world) if own and world.recorded and "load" not in changes else world


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

    def measure(self, traffic: Mapping[str, Any] | None = None, arrivals: str | None = None) -> FleetScenario:
        """Describe the edges as they are when nothing else is done as a world; see :func:`world_of`."""
        self._operator.settle()
        time.sleep(TIMED_S)
        capacities = self._operator.capacities_gcycles_s()
        self.world = world_of(self.config, [capacities[name] for name in self.config.homes], arrivals, traffic)
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


def served_table(live: Comparison) -> PlainTable:
    """Tell how what was sent was served: means over the sequences."""
    table = PlainTable(title="Served", pad_edge=False, collapse_padding=True)
    table.add_column("policy", no_wrap=True)
    for title, _, _ in SERVED:
        table.add_column(title, justify="right", no_wrap=True)
    for row in live.rows:
        table.add_row(row.label, *(f"{values(row.results).mean():.{digits}f}" for _, values, digits in SERVED))
    return table


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
    draw_or_tell(lambda: plot_comparison(test.comparison, out / "live-comparison.png"), warn)
    draw_or_tell(lambda: plot_delays(test.delays_s, out / "live-delays.png"), warn)
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
