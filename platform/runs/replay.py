# SPDX-License-Identifier: Apache-2.0
"""Replay of recorded tasks: what became of them, or what would have become of them under another policy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.objectives import Objective
from edgegen.envs.core.paths import replacing
from edgegen.envs.core.scenarios import as_scenario
from edgegen.envs.offloading.physics import drain_backlog, in_order_of_service, place
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.trace import OUTCOME_COLUMNS, Trace, read_trace
from edgegen.envs.offloading.view import ROUTER, RouterView, Tasks
from edgegen.platform.files import refuse_same_file

_CHUNK = 65_536  # slots of a long pause that are computed and written at once
_MAX_BACKLOG_ROWS = 100_000_000


@dataclass(frozen=True)
class ReplaySummary:
    """What a replay came to.

    Attributes:
        scenario: Name of the scenario.
        decided_by: Name of the policy, or ``"recorded"``.
        tasks: Number of tasks.
        slots: Number of slots, from slot 0 to the last one with a task.
        mean_delay_s: Mean service delay, s; 0 without tasks.
        p95_delay_s: 95th percentile of the service delay, s.
        max_delay_s: Greatest service delay, s.
        mean_wait_s: Mean waiting part of the delay, s.
        final_backlog_gcycles: Work left on all servers after the last slot, Gcycle.
    """

    scenario: str
    decided_by: str
    tasks: int
    slots: int
    mean_delay_s: float
    p95_delay_s: float
    max_delay_s: float
    mean_wait_s: float
    final_backlog_gcycles: float


def replay(
    scenario: OffloadingScenario | str | Path,
    trace_path: str | Path,
    out_path: str | Path,
    backlog_path: str | Path | None = None,
    policy: Policy | None = None,
    redecide: bool = False,
    *,
    explore: bool = True,
) -> ReplaySummary:
    """Run the tasks of a trace through a scenario's servers, in float64.

    Args:
        scenario: The servers, or the name or path of a scenario.
        trace_path: The trace, see :mod:`edgegen.envs.offloading.trace`.
        out_path: Where the trace's rows go, by slot, index and edge, with ``server``, the parts of the delay and
            ``delay_s``. Columns of these names in the trace are replaced.
        backlog_path: Where the backlog of every server after every slot goes.
        policy: Decides where the tasks run, if the trace does not say or ``redecide`` is set.
        redecide: Let the policy decide even if the trace holds decisions.
        explore: Sample the policy's actions; otherwise take its most likely ones. Rules ignore it.

    Raises:
        InputError: If the trace is wrong, a file can not be written, or nobody decides.
    """
    scenario = as_scenario(scenario, OffloadingScenario)
    refuse_same_file({"the trace": trace_path, "the output": out_path, "the backlog output": backlog_path})
    trace = read_trace(trace_path, scenario.servers, decisions=not redecide)
    slots = int(trace.slot[-1]) + 1 if len(trace) else 0
    if len(trace) and trace.server is None and policy is None:
        why = "its decisions are to be made anew" if redecide else "it has no column 'server'"
        raise InputError(f"Trace '{trace_path}' needs a policy because {why}; give --policy.")
    if backlog_path is not None and slots * scenario.servers > _MAX_BACKLOG_ROWS:
        raise InputError(
            f"Trace '{trace_path}' ends at slot {slots - 1}, so '{backlog_path}' would have {slots * scenario.servers} "
            f"rows, but at most {_MAX_BACKLOG_ROWS} are written; leave the backlog out or number the slots from 0."
        )
    with contextlib.ExitStack() as files:
        out = files.enter_context(replacing(out_path))
        backlogs = files.enter_context(replacing(backlog_path)) if backlog_path is not None else None
        if backlogs is not None:
            backlogs.write("slot,server,backlog_gcycles\n")
        outcome, backlog = _serve(scenario, trace, policy, explore, backlogs)
        kept = trace.rows.drop(columns=list(OUTCOME_COLUMNS), errors="ignore").reset_index(drop=True)
        pd.concat([kept, outcome], axis=1).to_csv(out, index=False)
    delay = outcome["delay_s"].to_numpy() if len(trace) else np.zeros(1)
    return ReplaySummary(
        scenario=scenario.name,
        decided_by="recorded" if trace.server is not None or policy is None else policy.name,
        tasks=len(trace),
        slots=slots,
        mean_delay_s=float(delay.mean()),
        p95_delay_s=float(np.quantile(delay, 0.95)),
        max_delay_s=float(delay.max()),
        mean_wait_s=float(outcome["wait_s"].mean()) if len(trace) else 0.0,
        final_backlog_gcycles=float(backlog.sum()),
    )


def _serve(
    scenario: OffloadingScenario, trace: Trace, policy: Policy | None, explore: bool, backlogs: IO[str] | None
) -> tuple[pd.DataFrame, Tensor]:
    """Play the trace slot by slot; returns the outcome columns ``[M]`` and the last backlog ``[1, B]``."""
    capacity = torch.tensor([scenario.capacity_gcycles_s], dtype=torch.float64)  # [1, B]
    rate = torch.tensor([scenario.rate_mbit_s], dtype=torch.float64)
    backlog = torch.zeros_like(capacity)
    policy_dtype = _dtype(policy)
    memory: Memory | None = None
    outcome = {name: np.empty(len(trace), np.int64 if name == "server" else np.float64) for name in OUTCOME_COLUMNS}
    by_server = scenario.service_order == "by_server"
    next_slot = 0
    for slot, first, end in _slots(trace):
        backlog = _pause(scenario, next_slot, slot, backlog, capacity, backlogs)
        rows = slice(first, end)
        tasks, recorded = _tasks(trace, rows, scenario.servers)
        observation = RouterView(
            slot, backlog, capacity, rate, tasks, by_server=by_server, objective=Objective.of(scenario)
        )
        server = recorded
        if server is None:
            assert policy is not None  # replay() has refused this
            seen = _as_type(observation, policy_dtype)
            if memory is None:
                memory = policy.begin(ROUTER, seen)
            with torch.no_grad():
                server, memory = policy.act(ROUTER, seen, memory, explore)
        served, placed = place(observation, server)
        backlog = drain_backlog(backlog, placed, capacity, scenario.slot_s)
        _write_backlogs(backlogs, slot, backlog)
        # Rows of the trace go by index; tasks are served in their own order.
        order = served.dense(torch.arange(len(served.server)))[in_order_of_service(tasks.present)]
        outcome["server"][rows] = served.server[order].numpy()
        outcome["delay_s"][rows] = served.delays.total_s[order].numpy()
        for name, values in vars(served.delays).items():
            outcome[name][rows] = values[order].numpy()
        next_slot = slot + 1
    return pd.DataFrame(outcome), backlog


def _dtype(policy: Policy | None) -> torch.dtype:
    """Return the type in which a policy must see the world: networks that of their weights, rules any."""
    networks = [part for part in vars(policy).values() if isinstance(part, nn.Module)] if policy is not None else []
    return next((weight.dtype for network in networks for weight in network.parameters()), torch.float64)


def _as_type(observation: RouterView, dtype: torch.dtype) -> RouterView:
    tasks = observation.tasks
    return RouterView(
        observation.slot,
        observation.backlog_gcycles.to(dtype),
        observation.capacity_gcycles_s.to(dtype),
        observation.rate_mbit_s.to(dtype),
        Tasks(tasks.present, tasks.size_mbit.to(dtype), tasks.workload_gcycles.to(dtype), tasks.result_mbit.to(dtype)),
        by_server=observation.by_server,
        objective=observation.objective,
    )


def _slots(trace: Trace) -> Iterator[tuple[int, int, int]]:
    """Yield each slot that has tasks with the range of its rows."""
    numbers, first = np.unique(trace.slot, return_index=True)
    yield from zip(numbers.tolist(), first.tolist(), np.append(first, len(trace))[1:].tolist(), strict=True)


def _tasks(trace: Trace, rows: slice, servers: int) -> tuple[Tasks, Tensor | None]:
    """Lay out the tasks of a slot, and their recorded servers, as ``[1, B, N]``.

    N is the number of different indices in the slot: the rank of an index takes its place, which keeps the order of
    service and spares the width of gaps.
    """
    indices, rank = np.unique(trace.index[rows], return_inverse=True)
    cell = torch.from_numpy(trace.edge[rows] * len(indices) + rank)

    def laid_out(values: np.ndarray) -> Tensor:
        flat = torch.zeros(servers * len(indices), dtype=torch.from_numpy(values).dtype)
        return flat.index_copy_(0, cell, torch.from_numpy(values)).view(1, servers, len(indices))

    tasks = Tasks(
        laid_out(np.ones(len(rank), bool)),
        laid_out(trace.size_mbit[rows]),
        laid_out(trace.workload_gcycles[rows]),
        laid_out(trace.result_mbit[rows]),
    )
    return tasks, None if trace.server is None else laid_out(trace.server[rows])


def _pause(
    scenario: OffloadingScenario, begin: int, end: int, backlog: Tensor, capacity: Tensor, backlogs: IO[str] | None
) -> Tensor:
    """Let the slots ``[begin, end)``, which have no tasks, pass; returns the backlog ``[1, B]`` after them."""
    nothing = torch.zeros_like(backlog)
    for start in range(begin, end, _CHUNK) if backlogs is not None else ():
        passed = torch.arange(start - begin + 1, min(start + _CHUNK, end) - begin + 1, dtype=torch.float64)
        _write_backlogs(backlogs, start, drain_backlog(backlog, nothing, capacity * passed[:, None], scenario.slot_s))
    return drain_backlog(backlog, nothing, capacity * (end - begin), scenario.slot_s)


def _write_backlogs(file: IO[str] | None, first_slot: int, backlog: Tensor) -> None:
    """Write the backlogs ``[slots, B]`` after consecutive slots."""
    if file is None:
        return
    for slot, row in enumerate(backlog.tolist(), first_slot):
        file.write("".join(f"{slot},{server},{value!r}\n" for server, value in enumerate(row)))
