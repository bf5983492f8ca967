"""What an agent of the offloading world can see at all: the bounds of its observation vector."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from edgegen.envs.offloading.draws import LEAST_SEEN
from edgegen.envs.offloading.scenario import OffloadingScenario

_SLACK = 1 + 1e-5  # bounds leave room for rounding in float32


def vector_space(scenario: OffloadingScenario) -> spaces.Box:
    """The space of the vectors of :class:`edgegen.envs.parallel.OffloadingParallelEnv`, laid out as told there."""
    servers = scenario.servers
    capacity, rate = _ends(scenario)
    least = capacity[0]
    if scenario.outages is not None:
        least = least * max(scenario.outages.factor, LEAST_SEEN)
    drained = np.zeros_like(least) if scenario.outages is not None else capacity[0] * scenario.slot_s
    arriving = servers * scenario.max_tasks * scenario.max_workload_gcycles
    age = np.full(servers if scenario.reports is not None else 0, oldest_report_slots(scenario))
    high = np.concatenate(
        [
            [scenario.size_mbit.high, scenario.max_workload_gcycles, scenario.result_mbit.high, scenario.max_tasks],
            scenario.slots * np.maximum(arriving - drained, 0),
            np.full(servers, scenario.max_tasks * scenario.max_workload_gcycles),
            capacity[1],
            rate[1],
            age,
        ]
    )
    low = np.concatenate([np.zeros(4 + 2 * servers), least, rate[0], np.zeros_like(age)])
    return spaces.Box((low / _SLACK).astype(np.float32), (high * _SLACK).astype(np.float32), dtype=np.float32)


def oldest_report_slots(scenario: OffloadingScenario) -> int:
    """The most slots ago that servers can have been as they are shown."""
    reports = scenario.reports
    if reports is None:
        return 0
    return scenario.slots if reports.loss else min(reports.delay_slots, scenario.slots)


def _ends(scenario: OffloadingScenario) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest whole capacity and rate of each server ``[2, B]``, whatever episode is played."""
    servers, sets = scenario.servers, scenario.server_sets
    if sets is None or sets.drawn == "once":
        rates = np.array(scenario.rate_mbit_s).reshape(-1, servers)  # one row per origin, or one for all
        return np.tile(scenario.capacity_gcycles_s, (2, 1)), np.stack([rates.min(0), rates.max(0)])
    spread = np.array([sets.capacity_gcycles_s.low, sets.capacity_gcycles_s.high])
    if sets.load is not None:
        # Scaled to a given sum: a server has most of it where all others are drawn at the other end, and least.
        others = (servers - 1) * spread[::-1]
        load = np.full(2, sets.load) if isinstance(sets.load, float) else np.array([sets.load.high, sets.load.low])
        spread = spread / (spread + others) * scenario.work_gcycles_s / load
    rate = np.array([sets.rate_mbit_s.low, sets.rate_mbit_s.high])
    return tuple(np.repeat(ends[:, None], servers, axis=1) for ends in (spread, rate))  # type: ignore[return-value]
