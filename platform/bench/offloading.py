# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the offloading world: its simulator, rules, the LAD-TS policy and its training."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.rules.offloading import RULES, make_rule
from edgegen.envs.core.device import finish, is_gpu
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.draws import draw_episodes
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.view import ROUTER
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.envs.pettingzoo import parallel_env, vector_env
from edgegen.platform.bench.floors import Least
from edgegen.platform.bench.measuring import BenchRun, Measurement, rate
from edgegen.platform.process import quiet_libraries

if TYPE_CHECKING:
    from edgegen.algorithms.methods.ladts import LADTSPolicy

SCENARIO = "ladts-paper"
POLICY_COPIES = 16


def simulators(run: BenchRun) -> Iterator[Measurement]:
    """Measure the simulator with several numbers of copies."""
    scenario = _scenario(run)
    for copies in run.copies:
        run.tell(f"the simulator with {copies} copies")
        yield from bench_simulator(scenario, copies, run.repeats, run.seed, run.device)
    if not is_gpu(run.device):
        run.tell("the environments of other libraries")
        yield from bench_environments(run)


def policies(run: BenchRun) -> Iterator[Measurement]:
    """Measure how fast all rules decide, and the LAD-TS policy."""
    scenario = _scenario(run)
    for name in RULES:
        run.tell(name)
        rule = make_rule(name, run.seed)
        yield bench_policy(
            scenario, rule, POLICY_COPIES, run.repeats, run.seed, device=run.device, least=_least_of(name, scenario)
        )
    for preset in ("paper", "improved"):
        run.tell(f"the LAD-TS policy, {preset} preset")
        policy = untrained_policy(scenario, preset, run.seed)
        policy.actor.to(run.device)
        least = _least_of_chain(policy.actor)
        yield bench_policy(
            scenario, policy, POLICY_COPIES, run.repeats, run.seed, f"LAD-TS {preset}", run.device, least
        )


def _least_of(rule: str, scenario: OffloadingScenario) -> Least | None:
    """What a decision of a rule that looks at every server takes at least: its cost on each, and the least of them."""
    if rule not in ("least-delay", "opt-ts"):
        return None
    return Least(operations=9 * scenario.servers, moved_bytes=13 + 8)


def _least_of_chain(actor: Any) -> Least:
    """What a decision of a chain takes at least: the products of its network, the state's part of the first once."""
    latent, _, state = actor.split
    hidden, servers = actor.spec.hidden, actor.spec.servers
    products = state * hidden + actor.spec.denoising_steps * (latent * hidden + hidden * hidden + hidden * servers)
    return Least(operations=2 * products, moved_bytes=4 * (latent + state + servers) + 8)


def trainings(run: BenchRun) -> Iterator[Measurement]:
    """Measure whole trainings of LAD-TS. Their simulators are on the CPU, so with a GPU they are left out."""
    if is_gpu(run.device):
        return
    run.tell("training")
    # Always whole episodes: in shorter ones the replay is still filling up and there is nothing to learn from.
    yield bench_training(load_scenario(SCENARIO), episodes=2 if run.quick else 4, seed=run.seed)


def _scenario(run: BenchRun) -> OffloadingScenario:
    return load_scenario(SCENARIO, {"slots": 10} if run.quick else None, OffloadingScenario)


def bench_simulator(
    scenario: OffloadingScenario, copies: int, repeats: int, seed: int, device: str = "cpu"
) -> Iterator[Measurement]:
    """Measure the simulator alone: drawing arrivals, and placing tasks with actions drawn beforehand."""
    simulator = OffloadingWorld(scenario, copies, device)
    simulator.reset(seed)
    tasks = draw_episodes(scenario, seed, range(copies))
    count = int(tasks.present[:, : scenario.slots].sum())
    generator = torch.Generator().manual_seed(seed)
    shape = (copies, scenario.servers, scenario.max_tasks)
    actions = [torch.randint(scenario.servers, shape, generator=generator).to(device) for _ in range(scenario.slots)]

    def play() -> None:
        # The state is put back instead of calling reset, which would draw the arrivals again.
        simulator.state.slot = 0
        simulator.state.backlog_gcycles = torch.zeros_like(simulator.state.backlog_gcycles)
        for action in actions:
            simulator.decide(action)
        finish(device)

    # In: a task and its server. Out: where it was served, and four parts of its delay, from three divisions.
    least = Least(operations=9, moved_bytes=21 + 48)
    yield rate(f"simulator, E = {copies}", "decisions/s", count, play, repeats, least)
    drawn = int(tasks.present.sum())
    yield rate(f"arrivals, E = {copies}", "tasks/s", drawn, lambda: simulator.reset(seed), repeats)


def bench_environments(run: BenchRun) -> Iterator[Measurement]:
    """Measure steps of the PettingZoo environments of ``demo``: a round of all agents, in every copy."""
    scenario = load_scenario("demo")
    env, steps = parallel_env(scenario, observation="vector"), 50 if run.quick else 300
    agents, servers = env.possible_agents, scenario.servers

    def alone() -> None:
        for step in range(steps):
            if not env.agents:
                env.reset()
            env.step({agent: (step + at) % servers for at, agent in enumerate(agents)})

    env.reset(seed=run.seed)
    yield rate("PettingZoo, parallel form", "steps/s", steps, alone, run.repeats)
    many = vector_env(scenario, POLICY_COPIES)
    generator = np.random.default_rng(run.seed)
    actions = generator.integers(servers, size=(steps, POLICY_COPIES, servers))

    def together() -> None:
        for chosen in actions:
            if not many.agents:
                many.reset()
            many.step(chosen)

    many.reset(seed=run.seed)
    yield rate(f"PettingZoo, vector form, E = {POLICY_COPIES}", "steps/s", steps * POLICY_COPIES, together, run.repeats)


def bench_policy(
    scenario: OffloadingScenario,
    policy: Policy,
    copies: int,
    repeats: int,
    seed: int,
    name: str | None = None,
    device: str = "cpu",
    least: Least | None = None,
) -> Measurement:
    """Measure a policy's decisions for one slot of many copies, without the simulator."""
    simulator = OffloadingWorld(scenario, copies, device)
    observation = simulator.reset(seed)
    memory = policy.begin(ROUTER, observation)

    def act() -> None:
        with torch.no_grad():
            policy.act(ROUTER, observation, memory)
        finish(device)

    count = int(observation.tasks.present.sum())
    return rate(f"{name or policy.name} decides, E = {copies}", "decisions/s", count, act, repeats, least)


def untrained_policy(scenario: OffloadingScenario, preset: str, seed: int) -> LADTSPolicy:
    """Make a LAD-TS policy with fresh weights; deciding takes the same time as with trained ones."""
    from edgegen.algorithms.methods.ladts import METHOD, LADTSPolicy
    from edgegen.algorithms.roles.router.routers import router_for

    return LADTSPolicy(router_for(scenario, METHOD.make_settings(preset)).actor(), seed=seed)


def bench_training(scenario: OffloadingScenario, episodes: int, seed: int, preset: str = "paper") -> Measurement:
    """Measure training per episode, in this process and without starting up; the first episode is the warm-up."""
    from edgegen.platform.runs.training import EpisodeReport, TrainRequest, train

    quiet_libraries()
    marks: list[tuple[float, float]] = []

    def mark(report: EpisodeReport) -> None:
        del report
        marks.append((time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as folder:
        request = TrainRequest(
            scenario=scenario,
            out=Path(folder) / "run",
            preset=preset,
            episodes=episodes + 1,
            seed=seed,
            checkpoint_every=episodes + 1,
            tracking=False,
        )
        train(request, mark)
    steps = list(itertools.pairwise(marks))
    return Measurement(
        f"LAD-TS {preset} training, {scenario.slots} slots",
        "s/episode",
        statistics.median(end[0] - begin[0] for begin, end in steps),
        statistics.median(end[1] - begin[1] for begin, end in steps),
        len(steps),
        1,
    )
