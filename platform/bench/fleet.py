# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the fleet: whole episodes by a rule and by networks, forks that label decisions, and worlds by size.

All of it is compiled and measured in one thread: compiled functions count no references to arrays, and a change that
makes them do so shows here first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgegen.algorithms.fleet.episodes import label_requests, play_brain
from edgegen.algorithms.fleet.policy import FleetPolicy
from edgegen.algorithms.fleet.settings import FleetSettings
from edgegen.algorithms.fleet.spec import FleetSpec, make_chain
from edgegen.algorithms.rules.fleet_families import Prices
from edgegen.algorithms.rules.fleet_kernel import play_drawn
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.fleet.draws import draw_requests
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.platform.bench.measuring import BenchRun, Measurement, rate

SCENARIO = "fleet-8"
COPIES, FORKED_COPIES = 64, 4
SIZES = (8, 32, 200, 2000)
"""Sites of the worlds that are measured by size."""


def simulators(run: BenchRun) -> Iterator[Measurement]:
    """Measure whole episodes by a rule, and a frame of 30 s in worlds of several sizes."""
    run.tell(f"a rule in {COPIES} fleets")
    yield bench_rule(_scenario(run), COPIES, f"fleet, price-greedy, E = {COPIES}", run)
    for sites in SIZES:
        run.tell(f"a rule in a fleet of {sites} sites")
        scenario = load_scenario(SCENARIO, {"sites": sites, "frames": 1}, FleetScenario)
        yield bench_rule(scenario, SIZES[-1] // sites, f"fleet, price-greedy, S = {sites}", run)


def policies(run: BenchRun) -> Iterator[Measurement]:
    """Measure whole episodes of the policy with networks for all roles."""
    run.tell(f"networks in {COPIES} fleets")
    scenario = _scenario(run)
    policy, requests = _policy(scenario), draw_requests(scenario, run.seed, range(COPIES))
    name, work = f"fleet, networks, E = {COPIES}", int(requests.number.sum())
    yield rate(name, "requests/s", work, lambda: play_brain(scenario, policy.brain, requests, 1), run.repeats)


def trainings(run: BenchRun) -> Iterator[Measurement]:
    """Measure forks: labelled decisions of routers and allocators, and the ways that were tried for them."""
    run.tell("forks of a fleet")
    yield from bench_forks(_scenario(run), run)


def bench_rule(scenario: FleetScenario, copies: int, name: str, run: BenchRun) -> Measurement:
    """Measure a rule that plays whole episodes, the drawing of the requests left out."""
    requests, rule = draw_requests(scenario, run.seed, range(copies)), Prices().rule(scenario)
    work = int(requests.number.sum())
    return rate(name, "requests/s", work, lambda: play_drawn(scenario, rule, requests), run.repeats)


def bench_forks(scenario: FleetScenario, run: BenchRun) -> Iterator[Measurement]:
    """Measure labels of as many requests as a training marks; each way is a fork that is played to the horizon."""
    settings = FleetSettings()
    policy, requests = _policy(scenario), draw_requests(scenario, run.seed, range(FORKED_COPIES))
    draw = np.random.default_rng(run.seed).random(requests.arrival_s.shape)
    marked = np.where(draw < settings.labels, 1, 2 * (draw < settings.labels + settings.share_labels)).astype(np.uint8)

    def label() -> tuple[int, int]:
        labels = label_requests(scenario, policy.brain, requests, marked, settings.horizon_s, 1)
        return sum(len(one.value) for one in labels), sum(one.value.size for one in labels)

    labelled, ways = label()
    repeats = min(3, run.repeats)
    yield rate("fleet, forks", "decisions/s", labelled, label, repeats)
    yield rate("fleet, forks", "ways/s", ways, label, repeats)


def _scenario(run: BenchRun) -> FleetScenario:
    return load_scenario(SCENARIO, {"frames": 1} if run.quick else None, FleetScenario)


def _policy(scenario: FleetScenario) -> FleetPolicy:
    """The untrained policy, whose networks cost what trained ones do; with the rule's constants as they are."""
    spec = FleetSpec.of(scenario, FleetSettings(prices=Prices()))
    return FleetPolicy({role: make_chain(spec, role) for role in spec.learn}, spec, scenario)
