"""The offloading world: tasks are placed on servers slot by slot, and the delays follow.

Equations are those of the LAD-TS system model (arXiv 2412.18212, reconstructed from the authors' code: "spec").
Everything carries a leading batch axis E of independent copies, and no loop runs over tasks, servers or copies.

Within a slot, tasks are served in the order of their index n first and their server b second: all first tasks, then
all second tasks, and so on. No time passes inside a slot: a task waits for the backlog at the start of the slot and
for everything placed on its server earlier in the slot.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgegen.envs.arrivals import Tasks, draw_episodes
from edgegen.envs.episode_servers import LEAST_SEEN, draw_servers
from edgegen.envs.progress import Progress
from edgegen.envs.scenario import Scenario


@dataclass(frozen=True)
class Observation:
    """What can be known when the tasks of a slot are placed. All leading axes are the E copies.

    A policy must use only what its description says it may: row b of ``tasks`` belongs to server b's own users.
    Backlogs and capacities are what the schedulers have heard of the servers; see :class:`HeardObservation`.

    Attributes:
        slot: Number of the slot.
        backlog_gcycles: Backlog q_{b,t} of every server at the start of the slot ``[E, B]``, Gcycle.
        capacity_gcycles_s: Capacity f_b ``[E, B]`` in this slot, Gcycle/s.
        rate_mbit_s: Transmission rate v_b towards each server ``[E, B]``, or ``[E, B, B]`` from origin to destination,
            Mbit/s.
        tasks: Tasks waiting to be placed in this slot ``[E, B, N]``.
    """

    slot: int
    backlog_gcycles: Tensor
    capacity_gcycles_s: Tensor
    rate_mbit_s: Tensor
    tasks: Tasks

    @property
    def truth(self) -> Observation:
        """The same slot with true backlogs and capacities, for policies that are said to know everything."""
        return self

    @property
    def age_slots(self) -> Tensor:
        """How many slots ago the servers were as they are shown ``[E, B]``."""
        return torch.zeros_like(self.backlog_gcycles)


@dataclass(frozen=True)
class HeardObservation(Observation):
    """An observation of servers whose reports are late or lost.

    Attributes:
        actual: How things really are.
        age: Age of the newest report of each server ``[E, B]``, slots.
    """

    actual: Observation
    age: Tensor

    @property
    def truth(self) -> Observation:
        """How things really are."""
        return self.actual

    @property
    def age_slots(self) -> Tensor:
        """Age of the newest report of each server ``[E, B]``, slots."""
        return self.age


@dataclass(frozen=True)
class Delays:
    """Parts of the service delay of placed tasks, s; any common shape.

    Attributes:
        transfer_s: Input transfer T_in.
        wait_s: Waiting T_wait.
        compute_s: Computing T_comp.
        return_s: Result return T_out.
    """

    transfer_s: Tensor
    wait_s: Tensor
    compute_s: Tensor
    return_s: Tensor

    @property
    def total_s(self) -> Tensor:
        """Service delay T_serv, the sum of the parts."""
        return self.transfer_s + self.wait_s + self.compute_s + self.return_s


def service_delay(
    size_mbit: Tensor,
    workload_gcycles: Tensor,
    result_mbit: Tensor,
    local: Tensor,
    ahead_gcycles: Tensor,
    capacity_gcycles_s: Tensor,
    rate_mbit_s: Tensor,
) -> Delays:
    """Service delay of tasks on their servers; all arguments broadcast (spec §2).

    T_in = 0 if local else d/v;  T_comp = w/f;  T_out = r/v, also when local;  T_wait = (q + q_bef)/f.

    Args:
        size_mbit: Input size d.
        workload_gcycles: Workload w.
        result_mbit: Result size r.
        local: True where the task runs on the server it arrived at.
        ahead_gcycles: Work in front of the task, q + q_bef.
        capacity_gcycles_s: Capacity f of the chosen server.
        rate_mbit_s: Rate v towards the chosen server.
    """
    transfer_s = torch.where(local, torch.zeros_like(size_mbit), size_mbit / rate_mbit_s)
    return Delays(
        transfer_s, ahead_gcycles / capacity_gcycles_s, workload_gcycles / capacity_gcycles_s, result_mbit / rate_mbit_s
    )


def drain_backlog(backlog_gcycles: Tensor, placed_gcycles: Tensor, capacity_gcycles_s: Tensor, slot_s: float) -> Tensor:
    """Backlog after a slot: q ← max(q + q_bef − f Δ, 0) (spec §2)."""
    return (backlog_gcycles + placed_gcycles - capacity_gcycles_s * slot_s).clamp_min_(0)


def work_ahead(queue: Tensor, workload_gcycles: Tensor, queues: int) -> tuple[Tensor, Tensor]:
    """Work placed on the same queue by earlier entries, and the total per queue.

    A stable sort by queue and a cumulative sum per segment, so the cost is O(M log M) whatever the number of queues.
    Sums run in float64: a float32 running sum over a large batch would lose the small tasks.

    Args:
        queue: Queue of each entry, in order of service ``[M]``, values in ``[0, queues)``.
        workload_gcycles: Work of each entry ``[M]``.
        queues: Number of queues.

    Returns:
        Work ahead of each entry ``[M]`` and total work per queue ``[queues]``, both float64.
    """
    key = queue.to(torch.int16) if queues <= torch.iinfo(torch.int16).max else queue
    if key.device.type == "cpu":  # numpy's stable sort of 16-bit integers is a radix sort, several times faster
        order = torch.from_numpy(np.argsort(key.numpy(), kind="stable"))
    else:
        order = torch.argsort(key, stable=True)
    work = workload_gcycles.double()
    placed = torch.zeros(queues, dtype=torch.float64, device=queue.device).index_add_(0, queue, work)
    sorted_work = work[order]
    segment_start = (placed.cumsum(0) - placed)[queue[order]]
    ahead_sorted = (sorted_work.cumsum(0) - sorted_work - segment_start).clamp_min_(0)
    return torch.empty_like(work).index_copy_(0, order, ahead_sorted), placed


def until_done(delays: Delays, queue: Tensor, ahead_gcycles: Tensor, workload_gcycles: Tensor, by: Progress) -> Delays:
    """Replace waiting and computing by the time until the queues have really done the work; all ``[M]``."""
    start_s = by.time_to(queue, ahead_gcycles)
    end_s = by.time_to(queue, ahead_gcycles.double() + workload_gcycles)
    dtype = delays.wait_s.dtype
    return replace(delays, wait_s=start_s.to(dtype), compute_s=(end_s - start_s).to(dtype))


@dataclass(frozen=True)
class SlotOutcome:
    """What happened to the tasks placed in one slot, in order of service per copy.

    Attributes:
        copy: Copy of each task ``[M]``.
        edge: Server it arrived at ``[M]``.
        index: Its index n ``[M]``.
        server: Server it was placed on ``[M]``.
        delays: Parts of its service delay ``[M]``, s.
        shape: ``(E, B, N)``.
    """

    copy: Tensor
    edge: Tensor
    index: Tensor
    server: Tensor
    delays: Delays
    shape: tuple[int, int, int]

    def dense(self, values: Tensor) -> Tensor:
        """Lay values ``[M]`` of the placed tasks out as ``[E, B, N]``, zero where there is no task."""
        return values.new_zeros(self.shape).index_put_((self.copy, self.edge, self.index), values)

    def sum_per_copy(self, values: Tensor) -> Tensor:
        """Sum values ``[M]`` over the tasks of each copy, float64 ``[E]``."""
        return torch.zeros(self.shape[0], dtype=torch.float64, device=values.device).index_add_(
            0, self.copy, values.double()
        )


def place(
    observation: Observation, server: Tensor, *, check: bool = True, progress: Progress | None = None
) -> tuple[SlotOutcome, Tensor]:
    """Serve the tasks of one slot on the chosen servers: the heart of the simulator, a pure function.

    Args:
        observation: The slot: tasks, backlogs and servers.
        server: Chosen server of each task ``[E, B, N]``, ignored where no task is present.
        check: Refuse servers out of range.
        progress: What the queues can do from this slot on, if their capacities change; waiting and computing then
            last until the work is really done.

    Returns:
        The outcome of the tasks, and the work placed on each server ``[E, B]``, Gcycle.

    Raises:
        ValueError: If a present task was given a server that does not exist, or the shape is wrong.
    """
    tasks = observation.tasks
    copies, servers, width = tasks.present.shape
    if server.shape != tasks.present.shape:
        raise ValueError(f"actions have shape {tuple(server.shape)}, expected {tuple(tasks.present.shape)}")
    copy, index, edge = tasks.present.transpose(1, 2).nonzero(as_tuple=True)  # [M] each, in order of service
    flat = (copy * servers + edge) * width + index
    chosen = server.reshape(-1)[flat].long()
    if check and chosen.numel() and (int(chosen.min()) < 0 or int(chosen.max()) >= servers):
        raise ValueError(f"a task was sent to a server outside 0..{servers - 1}")
    queue = copy * servers + chosen
    workload = tasks.workload_gcycles.reshape(-1)[flat]
    ahead, placed = work_ahead(queue, workload, copies * servers)
    ahead += observation.backlog_gcycles.reshape(-1)[queue]
    link = queue if observation.rate_mbit_s.dim() == 2 else (copy * servers + edge) * servers + chosen
    delays = service_delay(
        tasks.size_mbit.reshape(-1)[flat],
        workload,
        tasks.result_mbit.reshape(-1)[flat],
        chosen == edge,
        ahead.to(workload.dtype),
        observation.capacity_gcycles_s.reshape(-1)[queue],
        observation.rate_mbit_s.reshape(-1)[link],
    )
    if progress is not None:
        delays = until_done(delays, queue, ahead, workload, progress)
    outcome = SlotOutcome(copy, edge, index, chosen, delays, (copies, servers, width))
    return outcome, placed.view(copies, servers).to(workload.dtype)


@dataclass
class OffloadingState:
    """Everything that changes while the simulator runs.

    Arrivals, servers and reports are functions of (seed, first_episode) and are redrawn on restore instead of stored.

    Attributes:
        seed: Root of the arrival stream.
        first_episode: Number of the first of the E episodes being played.
        slot: Slot about to be placed.
        backlog_gcycles: Backlog of each server ``[E, B]``, Gcycle.
        history_gcycles: Backlogs at the start of the slots so far ``[E, T, B]``, 0 from the present one on; None where
            nobody looks back.
    """

    seed: int
    first_episode: int
    slot: int
    backlog_gcycles: Tensor
    history_gcycles: Tensor | None = None


class OffloadingSimulator:
    """E independent copies of a scenario, played in lockstep.

    Example:
        >>> simulator = OffloadingSimulator(load_scenario("demo"), copies=64)
        >>> observation = simulator.reset(seed=1)
        >>> while not simulator.done:
        ...     outcome = simulator.step(actions_for(observation))
        ...     observation = simulator.observe()

    Args:
        scenario: The world.
        copies: Number of copies E.
        device: Where state and equations live.
        dtype: Floating-point type of the state.

    Attributes:
        capacity_gcycles_s: Whole capacity of each server in the episodes being played ``[E, B]``.
        rate_mbit_s: Rates ``[E, B]`` or ``[E, B, B]``.
    """

    def __init__(
        self,
        scenario: Scenario,
        copies: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.scenario = scenario
        self.copies = copies
        self.device = torch.device(device)
        self.dtype = dtype
        self.reset(seed=0)

    def reset(self, seed: int | None = None) -> Observation:
        """Begin the next E episodes, or with a seed the first E episodes of that seed's stream."""
        if seed is None:
            seed, first = self.state.seed, self.state.first_episode + self.copies
        else:
            first = 0
        backlog = torch.zeros(self.copies, self.scenario.servers, device=self.device, dtype=self.dtype)
        self._load(OffloadingState(seed, first, 0, backlog))
        return self.observe()

    @property
    def done(self) -> bool:
        """True once every scheduled slot has been placed; ``observe`` then shows the one slot beyond."""
        return self.state.slot >= self.scenario.slots

    @property
    def progress(self) -> Progress | None:
        """What the queues ``E·B`` can do from the present slot on; None if capacities do not change."""
        if self._share is None:
            return None
        return Progress.of(self.capacity_gcycles_s, self._share[:, self.state.slot :], self.scenario.slot_s)

    def observe(self) -> Observation:
        """Return the slot about to be placed, as the schedulers see it."""
        slot = self.state.slot
        actual = Observation(
            slot,
            self.state.backlog_gcycles,
            self._capacity_seen(slot),
            self.rate_mbit_s,
            self._arrivals.slot(slot),
        )
        history = self.state.history_gcycles
        if self._age is None or history is None:
            return actual
        age = self._age[:, slot]
        sent = (slot - age)[:, None]
        history[:, slot] = self.state.backlog_gcycles
        capacity = actual.capacity_gcycles_s
        if self._share is not None:
            capacity = self.capacity_gcycles_s * self._share.gather(1, sent)[:, 0].clamp_min(LEAST_SEEN)
        return HeardObservation(
            slot,
            history.gather(1, sent)[:, 0],
            capacity,
            actual.rate_mbit_s,
            actual.tasks,
            actual,
            age.to(self.dtype),
        )

    def step(self, server: Tensor) -> SlotOutcome:
        """Place all tasks of the slot and move to the next one.

        Args:
            server: Chosen server of each task ``[E, B, N]``, any integer type.

        Raises:
            ValueError: If the episode is over or a chosen server does not exist.
        """
        if self.done:
            raise ValueError("the episode is over; call reset()")
        outcome, placed = place(self.observe().truth, server, progress=self.progress)
        capacity = self.capacity_gcycles_s
        if self._share is not None:
            capacity = capacity * self._share[:, self.state.slot]
        self.state.backlog_gcycles = drain_backlog(self.state.backlog_gcycles, placed, capacity, self.scenario.slot_s)
        self.state.slot += 1
        return outcome

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state as plain values and tensors."""
        state = {field.name: getattr(self.state, field.name) for field in fields(self.state)}
        return {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state returned by ``state_dict`` of a simulator of the same scenario and copies."""
        backlog = state["backlog_gcycles"].to(self.device, self.dtype).clone()
        if backlog.shape != (self.copies, self.scenario.servers):
            raise ValueError(
                f"the state is of {tuple(backlog.shape)} copies and servers, not {(self.copies, self.scenario.servers)}"
            )
        history = state.get("history_gcycles")
        if history is not None:
            history = history.to(self.device, self.dtype).clone()
        elif state["slot"] and self.scenario.reports is not None:
            raise ValueError("the state lacks history_gcycles, which this scenario's reports look back to")
        self._load(OffloadingState(state["seed"], state["first_episode"], state["slot"], backlog, history))

    def _load(self, state: OffloadingState) -> None:
        episodes = range(state.first_episode, state.first_episode + self.copies)
        self._arrivals = draw_episodes(self.scenario, state.seed, episodes, self.device, self.dtype)
        servers = draw_servers(self.scenario, state.seed, episodes, self.device, self.dtype)
        self.capacity_gcycles_s = servers.capacity_gcycles_s
        self.rate_mbit_s = servers.rate_mbit_s
        self._share, self._age = servers.share, servers.age
        if self._age is not None and state.history_gcycles is None:
            state.history_gcycles = torch.zeros(self._age.shape, device=self.device, dtype=self.dtype)
        self.state = state

    def _capacity_seen(self, slot: int) -> Tensor:
        if self._share is None:
            return self.capacity_gcycles_s
        return self.capacity_gcycles_s * self._share[:, slot].clamp_min(LEAST_SEEN)
