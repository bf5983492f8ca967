# SPDX-License-Identifier: Apache-2.0
"""Faults on purpose: break parts of a cluster in the middle of a training, and see what came of it.

Every fault strikes a training on a local Ray cluster of a head and two worker nodes. Where the training restarts from a
checkpoint it must end with the very weights of a training to which nothing happened; where it goes on without
what was lost, with a policy as good as those of undisturbed trainings with other seeds.
"""

from __future__ import annotations

import json
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgegen.algorithms.core.catalog import latest_checkpoint, make_policy
from edgegen.envs.core.errors import InputError, did_you_mean, first_line
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.cluster.local import LocalCluster
from edgegen.platform.cluster.processes import Processes
from edgegen.platform.runs.evaluation import evaluate
from edgegen.platform.runs.statistics import Interval, mean_interval
from edgegen.platform.runs.training import ClusterUse, EpisodeReport, Listener, TrainRequest, TrainResult, resume, train

PROCESSES = Processes(num_env_runners=2, num_learners=2, cpus_per_learner=0.5, placement="spread", fragment_length=5)
FULL_DISK_BYTES = 4096
"""How large files may get on the disk that is full."""


@dataclass(frozen=True)
class ChaosPlan:
    """What is trained while things break.

    Attributes:
        folder: Where the runs go.
        episodes: Episodes of each training.
        checkpoint_every: Episodes between checkpoints.
        strike_at: Episodes after which something breaks.
        seeds: Undisturbed trainings to compare with; the first one's seed is that of the disturbed ones.
        evaluation_episodes: Validation episodes that tell how good a policy is.
        overrides: Settings of the algorithm.
    """

    folder: Path
    episodes: int = 160
    checkpoint_every: int = 32
    strike_at: int = 80
    seeds: tuple[int, ...] = (0, 1, 2)
    evaluation_episodes: int = 20
    overrides: dict[str, Any] = field(
        default_factory=lambda: {"copies": 4, "replay_warmup": 100, "updates_per_slot": 0.1}
    )

    def request(self, name: str, seed: int, cluster: LocalCluster) -> TrainRequest:
        """Describe a training of this plan."""
        return TrainRequest(
            scenario=load_scenario("demo", {"slots": 20}),
            out=self.folder / name,
            overrides=self.overrides,
            episodes=self.episodes,
            seed=seed,
            processes=PROCESSES,
            checkpoint_every=self.checkpoint_every,
            cluster=ClusterUse(cluster.address),
            tracking=False,
        )


@dataclass(frozen=True)
class Outcome:
    """What came of a training.

    Attributes:
        fault: What broke; empty for an undisturbed training.
        seed: Its seed.
        done: What was done.
        notices: What the training said about it.
        episodes: Episodes that were finished.
        delay_s: Mean delay of the trained policy in validation episodes, s; None if there is no policy.
        weights: Digest of the trained weights.
        seconds: How long it took, s.
        error: How it failed, if it did.
    """

    fault: str
    seed: int
    done: str
    notices: tuple[str, ...]
    episodes: int
    delay_s: Interval | None
    weights: str
    seconds: float
    error: str = ""

    @property
    def delay_text(self) -> str:
        """The mean delay for people."""
        return f"{self.delay_s.text()} s" if self.delay_s else "unknown"

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)


class _Struck:
    """Listens to a training, and breaks something once."""

    def __init__(self, at: int, strike: Callable[[], str]) -> None:
        self.done = ""
        self.notices: list[str] = []
        self._at = at
        self._strike = strike
        self.listener = Listener(self._look, self.notices.append)

    def _look(self, report: EpisodeReport) -> None:
        if not self.done and report.episode >= self._at:
            self.done = self._strike()


Fault = Callable[[ChaosPlan, LocalCluster, TrainRequest], "tuple[str, list[str], TrainResult]"]


def _strike(plan: ChaosPlan, request: TrainRequest, strike: Callable[[], str]) -> tuple[str, list[str], TrainResult]:
    struck = _Struck(plan.strike_at, strike)
    result = train(request, struck.listener)
    return struck.done, struck.notices, result


def kill_runner(plan: ChaosPlan, cluster: LocalCluster, request: TrainRequest) -> tuple[str, list[str], TrainResult]:
    """Kill the process of an env runner; the other one goes on alone until it is back."""

    def strike() -> str:
        victim = cluster.runners()[0]
        cluster.kill(victim)
        return f"killed env runner {victim.pid} on node {victim.node[:8]}"

    return _strike(plan, request, strike)


def kill_learner(plan: ChaosPlan, cluster: LocalCluster, request: TrainRequest) -> tuple[str, list[str], TrainResult]:
    """Kill the process of a learner; the training restarts from its latest checkpoint."""

    def strike() -> str:
        victim = cluster.learners()[-1]
        cluster.kill(victim)
        return f"killed learner {victim.pid} on node {victim.node[:8]}"

    return _strike(plan, request, strike)


def kill_node(plan: ChaosPlan, cluster: LocalCluster, request: TrainRequest) -> tuple[str, list[str], TrainResult]:
    """Kill a node with all its processes; the training restarts on the nodes that are left."""

    def strike() -> str:
        node = cluster.learners()[-1].node
        lost = sum(process.node == node for process in cluster.processes())
        cluster.kill_node(node)
        return f"killed node {node[:8]} with {lost} processes of the training on it"

    try:
        return _strike(plan, request, strike)
    finally:
        if len(cluster.workers) < 2:
            cluster.add_worker()


def kill_driver(plan: ChaosPlan, cluster: LocalCluster, request: TrainRequest) -> tuple[str, list[str], TrainResult]:
    """Kill the process that trains, between two checkpoints, and resume."""
    script = (
        "import pickle, sys; from edgegen.platform.runs.training import train; "
        "train(pickle.load(sys.stdin.buffer), lambda report: print(report.episode, flush=True))"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert driver.stdin is not None
    assert driver.stdout is not None
    driver.stdin.write(pickle.dumps(request))
    driver.stdin.close()
    try:
        reached = next((int(line) for line in driver.stdout if int(line) >= plan.strike_at), None)
    finally:
        driver.kill()
        driver.wait()
        driver.stdout.close()
    if reached is None:
        raise InputError(f"the training ended before episode {plan.strike_at}")
    checkpoint = latest_checkpoint(request.out)
    struck = _Struck(0, lambda: "")
    result = resume(request.out, on_episode=struck.listener, cluster=request.cluster, tracking=False)
    done = f"killed the driver {driver.pid} at episode {reached}, resumed from {checkpoint.name if checkpoint else '?'}"
    return done, struck.notices, result


def fill_disk(plan: ChaosPlan, cluster: LocalCluster, request: TrainRequest) -> tuple[str, list[str], TrainResult]:
    """Let the next checkpoint meet a full disk, then make room again."""
    del cluster
    with _file_limit_kept() as (low, free):

        def strike() -> str:
            resource.setrlimit(resource.RLIMIT_FSIZE, low)
            return f"files could not grow beyond {FULL_DISK_BYTES} bytes until the next checkpoint had failed"

        struck = _Struck(plan.strike_at, strike)

        def told(sentence: str) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, free)
            struck.notices.append(sentence)

        result = train(request, Listener(struck.listener.on_episode, told))
    return struck.done, struck.notices, result


@contextmanager
def _file_limit_kept() -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the limit of a full disk and the present one, and set that again in the end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield (FULL_DISK_BYTES, before[1]), before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


FAULTS: dict[str, Fault] = {
    "runner": kill_runner,
    "learner": kill_learner,
    "node": kill_node,
    "driver": kill_driver,
    "disk": fill_disk,
}
"""Faults of a training by name."""

HEAD = "head"
"""The fault of a live service; see ``chaos_head``."""

GOES_ON = ("runner",)
"""Faults after which a training goes on without what was lost, so that its numbers differ."""


def check_faults(names: list[str]) -> None:
    """Refuse faults that do not exist.

    Raises:
        InputError: If there is one.
    """
    known = (*FAULTS, HEAD)
    for name in names:
        if name not in known:
            raise InputError(f"Unknown fault '{name}'; faults are {', '.join(known)}.{did_you_mean(name, known)}")


def run_undisturbed(plan: ChaosPlan, cluster: LocalCluster, seed: int) -> Outcome:
    """Train with nothing breaking."""
    begun = time.perf_counter()
    request = plan.request(f"undisturbed-seed{seed}", seed, cluster)
    struck = _Struck(plan.episodes + 1, lambda: "")
    return _outcome(plan, "", seed, "", struck.notices, train(request, struck.listener), begun)


def run_fault(plan: ChaosPlan, cluster: LocalCluster, name: str) -> Outcome:
    """Train, and break something on the way."""
    begun = time.perf_counter()
    seed = plan.seeds[0]
    request = plan.request(name, seed, cluster)
    try:
        done, notices, result = FAULTS[name](plan, cluster, request)
    except InputError as error:
        return Outcome(name, seed, "", (), 0, None, "", time.perf_counter() - begun, first_line(error))
    return _outcome(plan, name, seed, done, notices, result, begun)


def _outcome(
    plan: ChaosPlan, fault: str, seed: int, done: str, notices: list[str], result: TrainResult, begun: float
) -> Outcome:
    world = load_scenario("demo", {"slots": 20})
    policy = make_policy(str(result.policy), world)
    delays = evaluate(world, policy, plan.evaluation_episodes, 0, validation=True).deciding
    manifest = json.loads((result.policy / "policy.json").read_text(encoding="utf-8"))
    return Outcome(
        fault=fault,
        seed=seed,
        done=done,
        notices=tuple(notices),
        episodes=len(next(iter(result.episodes.values()), [])),
        delay_s=mean_interval(delays),
        weights=manifest["weights_sha256"],
        seconds=time.perf_counter() - begun,
    )


def verdict(plan: ChaosPlan, outcome: Outcome, undisturbed: list[Outcome]) -> tuple[bool, str]:
    """Whether a training came through, and why that can be said.

    Args:
        plan: What was trained.
        outcome: What came of it.
        undisturbed: Trainings to which nothing happened; the first one has the same seed.
    """
    if outcome.error or outcome.delay_s is None:
        return False, outcome.error or "there is no policy"
    if not outcome.done:
        return False, "it ended before anything broke"
    if outcome.episodes < plan.episodes:
        return False, f"only {outcome.episodes} of {plan.episodes} episodes were finished"
    if outcome.weights == undisturbed[0].weights:
        return True, "the very weights of the undisturbed training"
    if outcome.fault not in GOES_ON:
        return False, "other weights than the undisturbed training"
    delays = [each.delay_s.estimate for each in undisturbed if each.delay_s is not None]
    limit = max(delays) + max(0.1 * max(delays), max(delays) - min(delays))
    good = outcome.delay_s.estimate <= limit
    return good, f"undisturbed seeds end at {min(delays):.3f} to {max(delays):.3f} s"
