# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the provisioning world: its simulator, and updates of D3PG."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import torch

from edgegen.algorithms.rules.caching import make_provisioning_rule
from edgegen.envs.core.device import finish
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import CACHER
from edgegen.envs.provisioning.world import ProvisioningWorld
from edgegen.platform.bench.measuring import BenchRun, Measurement, rate
from edgegen.platform.process import quiet_libraries

SCENARIO = "t2drl-default"
UPDATES = 20
"""Updates of a learner per timed repeat."""


def simulators(run: BenchRun) -> Iterator[Measurement]:
    """Measure the simulator with several numbers of copies."""
    scenario = load_scenario(SCENARIO, {"frames": 2} if run.quick else None, ProvisioningScenario)
    for copies in run.copies:
        run.tell(f"the provisioning simulator with {copies} copies")
        yield from bench_simulator(scenario, copies, run.repeats, run.seed, run.device)


def policies(run: BenchRun) -> tuple[Measurement, ...]:
    """Nothing: rules of this world decide within its simulator."""
    del run
    return ()


def trainings(run: BenchRun) -> Iterator[Measurement]:
    """Measure updates of D3PG."""
    for preset in ("paper", "improved"):
        run.tell(f"updates of D3PG, {preset} preset")
        scenario = load_scenario(SCENARIO, None, ProvisioningScenario)
        yield from bench_updates(scenario, preset, 3 if run.quick else 15, run.seed, run.device)


def bench_simulator(
    scenario: ProvisioningScenario, copies: int, repeats: int, seed: int, device: str = "cpu"
) -> Iterator[Measurement]:
    """Measure the provisioning simulator alone: drawing requests, and playing frames with equal shares."""
    simulator = ProvisioningWorld(scenario, copies, device)
    simulator.reset(seed)
    bits, _ = make_provisioning_rule("popular-static").act(CACHER, simulator.observe_frame(), {})
    shares = torch.full((copies, scenario.cells, scenario.users), 1 / scenario.users, device=device)
    begin = simulator.state_dict()
    count = copies * scenario.cells * scenario.users * scenario.slots

    def play() -> None:
        # The state is put back instead of calling reset, which would draw the requests again.
        simulator.state.frame, simulator.state.slot, simulator.state.caching = 0, 0, True
        simulator.state.cache = begin["cache"]
        while not simulator.done:
            if simulator.caching:
                simulator.cache(bits)
            simulator.allocate(shares, shares)
        finish(device)

    yield rate(f"provisioning simulator, E = {copies}", "user-slots/s", count, play, repeats)
    yield rate(f"requests, E = {copies}", "user-slots/s", count, lambda: simulator.reset(seed), repeats)


def bench_updates(
    scenario: ProvisioningScenario, preset: str, repeats: int, seed: int, device: str = "cpu"
) -> list[Measurement]:
    """Measure updates of D3PG through RLlib and in a plain PyTorch loop over the same networks."""
    from edgegen.platform.bench.updates import measure_updates

    quiet_libraries()
    times = measure_updates(scenario, preset, repeats, UPDATES, seed, device)
    return [
        Measurement(
            f"D3PG {preset} update, {how}",
            "s/update",
            statistics.median(wall for wall, _ in measured),
            statistics.median(cpu for _, cpu in measured),
            repeats,
            UPDATES,
        )
        for how, measured in times.items()
    ]
