"""The benchmark suite: how fast the simulator, the rules, the policy and training are on this machine.

Every row is a rate or a cost with its unit, the median of several repeats after a warm-up, in wall time and in
processor time; the second is the one to compare on a shared machine. Nothing is asserted: numbers belong to machines.
"""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.rules.caching import make_provisioning_rule
from edgegen.algorithms.rules.offloading import RULES, make_rule
from edgegen.envs.core.device import finish, is_gpu
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.draws import draw_episodes
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.view import ROUTER
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import CACHER
from edgegen.envs.provisioning.world import ProvisioningWorld
from edgegen.platform.process import quiet_libraries
from edgegen.platform.screen import PlainTable

if TYPE_CHECKING:
    from edgegen.algorithms.ladts.policy import LADTSPolicy

SCENARIO = "ladts-paper"
PROVISIONING_SCENARIO = "t2drl-default"
COPIES = (1, 64, 256)
GPU_COPIES = (*COPIES, 4096)
POLICY_COPIES = 16
UPDATES = 20
"""Updates of a learner per timed repeat."""


@dataclass(frozen=True)
class Measurement:
    """One row of the suite.

    Attributes:
        name: What was measured.
        unit: Of both values; ``.../s`` is a rate (more is better), ``s/...`` a cost (less is better).
        wall: Value by wall time.
        cpu: Value by processor time of this process, all threads.
        repeats: Timed repeats, of which the values are medians.
        work: Things done per repeat: decisions, tasks or episodes.
    """

    name: str
    unit: str
    wall: float
    cpu: float
    repeats: int
    work: int


@dataclass(frozen=True)
class BenchReport:
    """All measurements of a run, and where they were taken."""

    scenario: str
    seed: int
    quick: bool
    machine: dict[str, Any]
    measurements: tuple[Measurement, ...]

    def table(self) -> PlainTable:
        """Lay the measurements out for a terminal."""
        machine = self.machine
        where = "" if machine["device"] == "cpu" else f"{machine['device']}, with "
        table = PlainTable(
            title=f"{self.scenario} on {where}{machine['processor']}, {machine['cores']} cores, "
            f"{machine['torch_threads']} torch threads",
            caption="Medians after a warm-up. cpu counts the processor time of this process, all threads.",
        )
        for column in ("measured", "wall", "cpu", "unit", "repeats"):
            table.add_column(column, justify="left" if column in ("measured", "unit") else "right", no_wrap=True)
        for row in self.measurements:
            table.add_row(row.name, _number(row.wall), _number(row.cpu), row.unit, str(row.repeats))
        return table

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"format": "edgegen-bench-1", **asdict(self)}


def run_bench(
    quick: bool = False,
    seed: int = 0,
    on_measurement: Callable[[str], None] | None = None,
    training: bool = True,
    device: str = "cpu",
) -> BenchReport:
    """Measure everything.

    Args:
        quick: Fewer repeats and shorter episodes.
        seed: Seed of arrivals and policies.
        on_measurement: Called with the name of each group of measurements before it starts.
        training: Include training, which starts Ray.
        device: Where simulators, policies and updates run. Whole trainings, whose simulators are on the CPU, are
            not measured with a GPU.
    """
    tell = on_measurement or (lambda name: None)
    scenario = load_scenario(SCENARIO, {"slots": 10} if quick else None)
    repeats = 3 if quick else 7
    rows: list[Measurement] = []
    all_copies = GPU_COPIES if is_gpu(device) else COPIES
    for copies in all_copies:
        tell(f"the simulator with {copies} copies")
        rows += bench_simulator(scenario, copies, repeats, seed, device)
    world = load_scenario(PROVISIONING_SCENARIO, {"frames": 2} if quick else None)
    for copies in all_copies:
        tell(f"the provisioning simulator with {copies} copies")
        rows += bench_provisioning(world, copies, repeats, seed, device)
    for name in RULES:
        tell(name)
        rows.append(bench_policy(scenario, make_rule(name, seed), POLICY_COPIES, repeats, seed, device=device))
    for preset in ("paper", "improved"):
        tell(f"the LAD-TS policy, {preset} preset")
        policy = untrained_policy(scenario, preset, seed)
        policy.actor.to(device)
        rows.append(bench_policy(scenario, policy, POLICY_COPIES, repeats, seed, f"LAD-TS {preset}", device))
    if training and not is_gpu(device):
        tell("training")
        # Always whole episodes: in shorter ones the replay is still filling up and there is nothing to learn from.
        rows.append(bench_training(load_scenario(SCENARIO), episodes=2 if quick else 4, seed=seed))
    if training:
        for preset in ("paper", "improved"):
            tell(f"updates of D3PG, {preset} preset")
            rows += bench_updates(load_scenario(PROVISIONING_SCENARIO), preset, 3 if quick else 15, seed, device)
    return BenchReport(scenario.name, seed, quick, machine_info(device), tuple(rows))


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

    yield _rate(f"simulator, E = {copies}", "decisions/s", count, play, repeats)
    drawn = int(tasks.present.sum())
    yield _rate(f"arrivals, E = {copies}", "tasks/s", drawn, lambda: simulator.reset(seed), repeats)


def bench_provisioning(
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

    yield _rate(f"provisioning simulator, E = {copies}", "user-slots/s", count, play, repeats)
    yield _rate(f"requests, E = {copies}", "user-slots/s", count, lambda: simulator.reset(seed), repeats)


def bench_policy(
    scenario: OffloadingScenario,
    policy: Policy,
    copies: int,
    repeats: int,
    seed: int,
    name: str | None = None,
    device: str = "cpu",
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
    return _rate(f"{name or policy.name} decides, E = {copies}", "decisions/s", count, act, repeats)


def untrained_policy(scenario: OffloadingScenario, preset: str, seed: int) -> LADTSPolicy:
    """Make a LAD-TS policy with fresh weights; deciding takes the same time as with trained ones."""
    from edgegen.algorithms.ladts.actor import ActorSpec
    from edgegen.algorithms.ladts.baselines import make_actor
    from edgegen.algorithms.ladts.policy import LADTSPolicy
    from edgegen.algorithms.ladts.settings import make_settings

    return LADTSPolicy(make_actor(ActorSpec.of(scenario, make_settings(preset))), seed=seed)


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


def machine_info(device: str = "cpu") -> dict[str, Any]:
    """Describe the machine and the libraries that the numbers depend on."""
    return {
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if is_gpu(device) else device,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _rate(name: str, unit: str, work: int, action: Callable[[], Any], repeats: int) -> Measurement:
    """Time an action and return how much of ``work`` it does per second."""
    action()  # warm-up: allocations, thread pools
    wall, cpu = [], []
    for _ in range(repeats):
        before = time.perf_counter(), time.process_time()
        action()
        wall.append(time.perf_counter() - before[0])
        cpu.append(time.process_time() - before[1])
    # Processor clocks may tick coarser than a fast action lasts.
    tick = time.get_clock_info("process_time").resolution
    return Measurement(
        name, unit, work / statistics.median(wall), work / max(tick, statistics.median(cpu)), repeats, work
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
