# SPDX-License-Identifier: Apache-2.0
"""Small fleets, and a plain event loop as the reference of the compiled kernel."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.fleet.draws import ASKED, EXTRA, NOISE, UPLINK, Ints, Requests
from edgegen.envs.fleet.scenario import FleetScenario, Floats
from edgegen.envs.fleet.sites import HEADER, packed
from edgegen.envs.fleet.world import FleetOutcome, FleetWorld

V = TypeVar("V")

MODEL = {"size_gb": 2, "load_s": 1.5, "step_s": 0.1, "least_steps": 4, "least_quality": 0.3, "full_steps": 10}
MODELS = [{**MODEL, "full_quality": 0.9}, {**MODEL, "size_gb": 3, "step_s": 0.2, "full_quality": 1.0}]
DATA: dict[str, Any] = {
    "kind": "fleet",
    "name": "small",
    "sites": 3,
    "speed": [2, 1, 0.5],
    "memory_gb": [5, 3, 4],
    "models": [*MODELS, {**MODELS[0], "size_gb": 1.5, "load_s": 2}],
    "cloud": {"speed": 0.7, "distance_s": 2, "price": 0.3},
    "frame_s": 5,
    "frames": 3,
    "load": 0.8,
    "deadline_s": {"low": 3, "high": 8, "shape": {"kind": "empirical", "points": [3, 8]}},
    "weight": {"low": 0.5, "high": 2, "shape": {"kind": "empirical", "points": [0.5, 2]}},
}


def small(**changes: Any) -> FleetScenario:
    """A fleet of three sites and three models."""
    return build_scenario({**DATA, **changes}, FleetScenario)


def seen(world: FleetWorld, view: type[V]) -> V:
    """What the role that is due sees, if it is the one that it should be."""
    found = world.observe()
    assert isinstance(found, view)
    return found


def result_of(outcome: FleetOutcome) -> Tensor:
    """What became of requests whose steps were chosen ``[E, 11]``."""
    assert outcome.result is not None
    return outcome.result


def given_requests(
    scenario: FleetScenario,
    arrival_s: Floats,
    home: Ints,
    model: Ints,
    pictures: Floats,
    deadline_s: Floats,
    weight: Floats,
    happens: Floats | None = None,
) -> Requests:
    """Requests of one episode ``[N]`` that are given and not drawn, with nothing of chance beside.

    Args:
        scenario: The world; its models say how many steps are asked for.
        arrival_s: Times of arrival, rising, s.
        home: Sites that they arrive at.
        model: Models they ask for.
        pictures: Pictures.
        deadline_s: Promised delays, s.
        weight: Worths.
        happens: What happens to the sites ``[1, S, L]``; nothing if not given.
    """
    steps = np.array([kind.full_steps for kind in scenario.kinds_of_models], dtype=np.float64)[model]
    nothing = np.zeros(len(model))
    return Requests(
        np.array([len(model)]),
        arrival_s[None],
        home[None],
        model[None],
        pictures[None],
        deadline_s[None],
        weight[None],
        np.stack([steps, nothing, nothing + 1, nothing], axis=-1)[None],
        np.zeros((1, scenario.sites, 0)) if happens is None else happens,
    )


def requests_of(
    rows: list[tuple[float, int, int, float, float, float]], scenario: FleetScenario | None = None, **columns: Any
) -> Requests:
    """One episode with rows of arrival_s, home, model, pictures, deadline_s, weight; other columns by name."""
    arrival, home, model, *rest = (np.array(column) for column in zip(*rows, strict=True))
    given = given_requests(
        scenario or small(),
        arrival.astype(np.float64),
        home.astype(np.int64),
        model.astype(np.int64),
        *(values.astype(np.float64) for values in rest),
    )
    for column, values in columns.items():
        given.more[..., COLUMNS.index(column)] = values
    return given


COLUMNS = ["asked", "extra", "noise", "uplink"]


def changes(scenario: FleetScenario, factor: float, times: list[float]) -> np.ndarray:
    """What happens where the first of three sites has trouble from the first time to the second, and so on."""
    own = np.array([0.0, *times])
    pace = np.where(np.arange(len(own)) % 2 == 1, factor, 1.0)
    done = np.concatenate([[0.0], (np.diff(own) * pace[:-1]).cumsum()])
    filler = [np.inf] * len(times)
    rows = [
        np.stack([column, [first, *rest], [first, *rest]])[None]
        for column, first, rest in ((own, 0, filler), (pace, 1, [1.0] * len(times)), (done, 0, filler))
    ]
    own, pace, done = (np.ascontiguousarray(row) for row in rows)
    nothing = np.ones((1, scenario.sites, 0))
    return packed(nothing, nothing, (own, pace, done), 7.0)


def play_randomly(world: FleetWorld, seed: int) -> tuple[list[np.ndarray], list[tuple[int, float, np.ndarray]]]:
    """Play a world of one copy at random; returns what was wanted per frame, and (site, share, result) per request."""
    rng, wanted, served = np.random.default_rng(seed), [], []
    while world.turn is not None:
        scenario = world.scenario
        if world.turn == "cacher":
            bits = rng.random((1, scenario.sites, len(scenario.kinds_of_models))) < 0.4
            world.decide(torch.from_numpy(bits))
            wanted.append(world.books.wanted[0].copy())
        elif world.turn == "router":
            site = int(rng.integers(scenario.choices))
            world.decide(torch.tensor([[site]]))
        else:
            share = float(rng.random())
            outcome = world.decide(torch.full((1, 1, 1, 1), share, dtype=torch.float64))
            served.append((site, share, result_of(outcome)[0].numpy()))
    return wanted, served


class PlainSite:
    """A site as an event loop sees it: memory, the host's memory, and what happens to it."""

    def __init__(self, scenario: FleetScenario, requests: Requests, site: int) -> None:
        self.models, self.loading = scenario.kinds_of_models, scenario.loading
        self.load_factor = scenario.load_factor
        self.limit_gb, self.host_gb = scenario.site_memory_gb[site], scenario.host_memory_gb[site]
        self.memory: set[int] = set()
        self.host: list[int] = []
        self.wants: set[int] = set()
        self.used = dict.fromkeys(range(len(self.models)), 0.0)
        row: list[float] = requests.happens[0, site].tolist() or [0.0] * HEADER
        places, noises = int(row[0]), int(row[1])
        self.place = row[HEADER : HEADER + places] or [1.0] * len(self.models)
        self.noise = row[HEADER + places : HEADER + places + noises] or [1.0]
        self.started = 0
        changes = row[HEADER + places + noises :]
        size = len(changes) // 3
        self.changes = [
            (time, pace) for time, pace in zip(changes[:size], changes[size : 2 * size], strict=True) if time < np.inf
        ]

    def bring(self, model: int, free: bool = False) -> float:
        """Have a model in memory; returns how long that takes, s."""
        if model in self.memory:
            return 0.0
        load_s: float = self.models[model].load_s * self.load_factor * self.place[model]
        if model in self.host:
            self.host.remove(model)
            assert self.loading.host_s is not None
            load_s = self.loading.host_s
        while self.memory and self._taken(self.memory) + self.models[model].size_gb > self.limit_gb:
            worst = min(self.memory, key=lambda m: (m in self.wants, self.used[m], m))
            self.memory.remove(worst)
            if self.models[worst].size_gb <= self.host_gb:
                while self._taken(self.host) + self.models[worst].size_gb > self.host_gb:
                    self.host.pop(0)
                self.host.append(worst)
        self.memory.add(model)
        assert self._taken(self.memory) <= self.limit_gb
        if free:
            return 0.0
        self.started += 1
        return float(load_s * self.noise[(self.started - 1) % len(self.noise)])

    def end_s(self, now_s: float, work_s: float) -> float:
        """When some work is done, second by second of every pace."""
        if work_s == 0:
            return now_s
        ends = [time for time, _ in self.changes[1:]] + [np.inf]
        for (_, pace), end_s in zip(self.changes or [(0.0, 1.0)], ends, strict=True):
            if end_s <= now_s:
                continue
            if work_s <= pace * (end_s - now_s):
                return now_s + work_s / pace
            work_s -= pace * (end_s - now_s)
            now_s = end_s
        raise AssertionError("the last pace is for ever")

    def _taken(self, models: Iterable[int]) -> float:
        return sum(self.models[m].size_gb for m in models)


def by_events(
    scenario: FleetScenario, requests: Requests, wanted: list[np.ndarray], chosen: list[tuple[int, float]]
) -> list[float]:
    """Delays by an event loop: queues of jobs, and models that are loaded when a job begins and not before."""
    sites = [PlainSite(scenario, requests, number) for number in range(scenario.sites)]
    arrivals = requests.arrival_s[0, : requests.number[0]]
    events: list[tuple[float, int, int, str, int]] = []
    events += [(frame * scenario.frame_s, 0, frame, "frame", frame) for frame in range(scenario.frames)]
    events += [(float(time_s), 1, k, "arrival", k) for k, time_s in enumerate(arrivals)]
    if scenario.outages is not None and not scenario.outages.keeps_models:
        for number, its in enumerate(sites):  # what comes behind a failure in the queue finds nothing
            events += [(time_s, -2, i, "failure", number) for i, (time_s, pace) in enumerate(its.changes) if pace == 0]
    heapq.heapify(events)
    queue: list[deque[tuple[str, int]]] = [deque() for _ in sites]
    busy, done = [False] * len(sites), {}

    def begin(number: int, now: float) -> None:
        if busy[number] or not queue[number]:
            return
        (what, job), site = queue[number].popleft(), sites[number]
        length = 0.0
        if what == "frame":
            site.wants = {int(m) for m in np.flatnonzero(wanted[job][number])}
            length = sum(site.bring(m, job == 0) for m in sorted(site.wants))  # the first loads are free
        elif what == "failure":
            site.memory.clear()
            site.host.clear()
        else:
            model = int(requests.model[0, job])
            length = site.bring(model)
            site.used[model] = float(requests.arrival_s[0, job])
            speed = scenario.site_speed[number] * scenario.model_factor[number, model]
            length += _work_s(scenario, requests, job, chosen[job][1]) / speed * requests.more[0, job, NOISE]
        busy[number] = True
        heapq.heappush(events, (site.end_s(now, length), -1, job, what, number))

    while events:
        now, order, number, what, place = heapq.heappop(events)
        if order == -1:
            busy[place] = False
            if what == "arrival":
                done[number] = now
            begin(place, now)
        elif what == "frame":
            for site in range(len(sites)):
                queue[site].append(("frame", number))
                begin(site, now)
        elif what == "failure":
            queue[place].append(("failure", number))
            begin(place, now)
        elif chosen[number][0] < len(sites):  # the cloud has no queue, and what is refused ends here
            queue[chosen[number][0]].append(("arrival", number))
            begin(chosen[number][0], now)
    delays = []
    for k, (site, share) in enumerate(chosen):
        if site > len(sites):
            delays.append(0.0)
            continue
        uplink_s = float(requests.more[0, k, UPLINK])
        if site == len(sites):
            work = _work_s(scenario, requests, k, share) / scenario.cloud.speed * requests.more[0, k, NOISE]
            delays.append(uplink_s + scenario.cloud.distance_s + work)
            continue
        home = int(requests.home[0, k])
        hop_s, rate = (
            way[home][site] if isinstance(way, tuple) else way for way in (scenario.hop_s, scenario.rate_mbit_s)
        )
        way_s = uplink_s + (0.0 if site == home else hop_s + scenario.upload_mbit / rate)
        delays.append(done[k] - float(requests.arrival_s[0, k]) + way_s + scenario.result_mbit / rate)
    return delays


def _work_s(scenario: FleetScenario, requests: Requests, k: int, share: float) -> float:
    model, pictures = scenario.kinds_of_models[int(requests.model[0, k])], float(requests.pictures[0, k])
    full = float(requests.more[0, k, ASKED])
    least = min(model.least_steps, full)
    steps_s = (least + int(share * (full - least))) * model.step_s
    if scenario.further_picture is None:
        work_s = pictures * (model.fixed_s + steps_s)
    else:
        work_s = model.fixed_s + steps_s * (1 + scenario.further_picture * (pictures - 1))
    return work_s + float(requests.more[0, k, EXTRA])
