"""Evaluation of caching and allocation: whole episodes of a policy, many copies side by side, measured per episode."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgegen.algorithms.core.provisioning_policy import ProvisioningPolicy
from edgegen.algorithms.rules.benchmarks import first_memory
from edgegen.envs.core.device import finish
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.world import CacheOutcome, ProvisioningWorld, SlotOutcome
from edgegen.platform.runs.episodes import Array, EvaluationResults, evaluation_seed, play_in_chunks


@dataclass(frozen=True, kw_only=True)
class ProvisioningResults(EvaluationResults):
    """What a policy achieved, one value per episode ``[K]``: means over requests where nothing else is said.

    Attributes:
        mean_cost: What the policy costs: weighted delay and TV, and what the scenario charges for late requests, for
            fetching models, and for models beyond the storage (each nothing by default).
        delay_s: Delay, s; the sum of the four parts.
        uplink_s: Sending the request up, s.
        backhaul_s: Detour to the cloud, s.
        generation_s: Making the picture, s.
        downlink_s: Sending the picture down, s.
        tv: Total variation of the picture, lower is better.
        hit_ratio: Share of requests whose model was cached.
        useless_hits: Share of hits with fewer steps than A1, where quality starts to improve; not-a-number without
            any hit.
        late_share: Share of requests with a delay beyond the scenario's limit.
        fetch_s: Time to fetch newly cached models over the backhaul, per frame and cell, s.
        overflow_gb: Storage that decisions took beyond what there is, before they were amended, per frame and cell, GB.
        mean_reward: Reward of a frame, as learners see it: with penalties for decisions that had to be amended.
        requests: Requests in the episode.
    """

    SEED_NAME = "request_seed"

    mean_cost: Array
    delay_s: Array
    uplink_s: Array
    backhaul_s: Array
    generation_s: Array
    downlink_s: Array
    tv: Array
    hit_ratio: Array
    useless_hits: Array
    late_share: Array
    fetch_s: Array
    overflow_gb: Array
    mean_reward: Array
    requests: int

    @property
    def episodes(self) -> int:
        """Number of episodes K."""
        return len(self.mean_cost)

    @property
    def decisions(self) -> int:
        """Requests in all episodes."""
        return self.requests * self.episodes


def run_provisioning(
    scenario: ProvisioningScenario,
    policy: ProvisioningPolicy,
    episodes: int,
    seed: int,
    explore: bool = True,
    device: torch.device | str = "cpu",
    on_chunk: Callable[[int], None] | None = None,
    validation: bool = False,
) -> ProvisioningResults:
    """Play evaluation episodes ``0 .. episodes-1`` of a seed.

    What happens from outside depends on the scenario, the seed and the episode's number alone, so results of different
    policies are paired by episode. Requests, places and channels come from ``evaluation_seed(seed)``, which no
    training reaches; models that are drawn ``per_seed`` are therefore others than those of a training with the same
    seed. The policy's own random numbers restart from the seed: the same call gives the same results.

    Args:
        scenario: The world.
        policy: Who decides.
        episodes: Number of episodes K, at least 1.
        seed: The person's seed.
        explore: Sample the policy's actions; otherwise take its most likely ones.
        device: Where simulator and observations live.
        on_chunk: Called with the number of finished episodes whenever a chunk is done.
        validation: Draw the requests of a validation instead.

    Raises:
        InputError: If the seed or the number of episodes is out of range, or the policy can not play the scenario.
    """
    root = evaluation_seed(seed, validation)
    policy.seed(seed)

    def play(first: int, copies: int) -> dict[str, Any]:
        simulator = ProvisioningWorld(scenario, copies, device)
        simulator.reset(root, first)
        return _play(simulator, policy, explore)

    requests = scenario.slots * scenario.cells * scenario.users
    # Curves and draws hold some sixteen numbers per request.
    merged = play_in_chunks(episodes, 16 * requests, play, on_chunk)
    return ProvisioningResults(
        policy=policy.name,
        scenario=scenario.name,
        seed=seed,
        explore=explore,
        requests=requests,
        validation=validation,
        **merged,
    )


@torch.no_grad()
def _play(simulator: ProvisioningWorld, policy: ProvisioningPolicy, explore: bool) -> dict[str, Any]:
    """Play the copies of a freshly reset simulator to the end; values per copy, and the wall time in the policy."""
    started = time.perf_counter()
    memory = first_memory(policy, simulator)
    wall_s = time.perf_counter() - started
    sums: dict[str, Tensor] = {}

    def add(values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            total = value.double().flatten(1).sum(1)
            sums[name] = sums[name] + total if name in sums else total

    while not simulator.done:
        if simulator.caching:
            frame = simulator.observe_frame()
            started = time.perf_counter()
            wanted, memory = policy.cache(frame, memory, explore)
            finish(simulator.device)
            wall_s += time.perf_counter() - started
            add(_of_frame(simulator, simulator.cache(wanted)))
        slot = simulator.observe_slot()
        started = time.perf_counter()
        bandwidth, compute, memory = policy.allocate(slot, memory, explore)
        finish(simulator.device)
        wall_s += time.perf_counter() - started
        add(_of_slot(simulator.allocate(bandwidth, compute)))
        if simulator.caching or simulator.done:
            add({"reward": simulator.frame_reward()})
    return {**_means(simulator.scenario, sums), "decision_wall_s": wall_s}


def _of_frame(simulator: ProvisioningWorld, outcome: CacheOutcome) -> dict[str, Tensor]:
    frame = simulator.observe_frame()
    kept_gb = torch.where(outcome.cache, frame.size_gb, torch.zeros_like(frame.size_gb)).sum(-1)
    # What the amender takes out costs nothing in the end; what it leaves beyond the storage is charged.
    kept_beyond = (kept_gb > frame.storage_gb * (1 + 1e-9)) * outcome.overflow_gb
    return {"fetch_s": outcome.fetch_s, "overflow_gb": outcome.overflow_gb, "kept_beyond_gb": kept_beyond}


def _of_slot(outcome: SlotOutcome) -> dict[str, Tensor]:
    delays = outcome.delays
    return {
        "cost": outcome.cost,
        "delay_s": delays.total_s,
        "uplink_s": delays.uplink_s,
        "backhaul_s": delays.backhaul_s,
        "generation_s": delays.generation_s,
        "downlink_s": delays.downlink_s.expand(outcome.cost.shape),
        "tv": outcome.tv,
        "hits": outcome.hit,
        "useless": outcome.useless,
        "late": outcome.late,
    }


def _means(scenario: ProvisioningScenario, sums: dict[str, Tensor]) -> dict[str, Array]:
    requests = scenario.slots * scenario.cells * scenario.users
    decisions = scenario.frames * scenario.cells
    charged = (
        scenario.late_penalty * sums["late"] / requests
        + scenario.switching_weight * sums["fetch_s"] / decisions
        + scenario.overflow_penalty_per_gb * sums["kept_beyond_gb"] / decisions
    )
    per_request = ("delay_s", "uplink_s", "backhaul_s", "generation_s", "downlink_s", "tv")
    means = {
        "mean_cost": sums["cost"] / requests + charged,
        **{name: sums[name] / requests for name in per_request},
        "hit_ratio": sums["hits"] / requests,
        "useless_hits": sums["useless"] / sums["hits"],  # 0/0 is not a number, and says so
        "late_share": sums["late"] / requests,
        "fetch_s": sums["fetch_s"] / decisions,
        "overflow_gb": sums["overflow_gb"] / decisions,
        "mean_reward": sums["reward"] / decisions,
    }
    return {name: value.cpu().numpy() for name, value in means.items()}
