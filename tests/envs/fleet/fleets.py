"""Small fleets, and a plain event loop as the reference of the compiled kernel."""

from __future__ import annotations

import heapq
from collections import deque
from typing import Any

import numpy as np
import torch

from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.fleet.draws import Requests, given_requests
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.sites import packed
from edgegen.envs.fleet.world import FleetWorld

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
    whole = tuple(np.ascontiguousarray(row) for row in rows)
    nothing = np.ones((1, scenario.sites, 0))
    return packed(nothing, nothing, whole, 7.0)


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
            served.append((site, share, outcome.result[0].numpy()))
    return wanted, served


def by_events(
    scenario: FleetScenario, requests: Requests, wanted: list[np.ndarray], chosen: list[tuple[int, float]]
) -> list[float]:
    """Delays by an event loop: queues of jobs, and models that are loaded when a job begins and not before."""
    models, sites = scenario.kinds_of_models, scenario.sites
    events: list[tuple[float, int, int, str, int]] = []
    events += [(frame * scenario.frame_s, 0, frame, "frame", frame) for frame in range(scenario.frames)]
    events += [
        (float(time_s), 1, k, "arrival", k) for k, time_s in enumerate(requests.arrival_s[0, : requests.number[0]])
    ]
    heapq.heapify(events)
    queue: list[deque[tuple[str, int]]] = [deque() for _ in range(sites)]
    busy, memory = [False] * sites, [set() for _ in range(sites)]  # type: ignore[var-annotated]
    wants = [set() for _ in range(sites)]  # type: ignore[var-annotated]
    used, done = [dict.fromkeys(range(len(models)), 0.0) for _ in range(sites)], {}

    def bring(site: int, model: int) -> float:
        if model in memory[site]:
            return 0.0
        limit = scenario.site_memory_gb[site]
        while memory[site] and sum(models[m].size_gb for m in memory[site]) + models[model].size_gb > limit:
            memory[site].remove(min(memory[site], key=lambda m: (m in wants[site], used[site][m], m)))
        memory[site].add(model)
        assert sum(models[m].size_gb for m in memory[site]) <= limit
        return models[model].load_s * scenario.load_factor

    def begin(site: int, now: float) -> None:
        if busy[site] or not queue[site]:
            return
        what, number = queue[site].popleft()
        if what == "frame":
            wants[site] = {int(m) for m in np.flatnonzero(wanted[number][site])}
            length = sum(bring(site, m) for m in sorted(wants[site])) * (number > 0)  # the first loads are free
        else:
            model = int(requests.model[0, number])
            length = bring(site, model)
            used[site][model] = float(requests.arrival_s[0, number])
            length += _work_s(scenario, requests, number, chosen[number][1]) / scenario.site_speed[site]
        busy[site] = True
        heapq.heappush(events, (now + length, -1, number, what, site))

    while events:
        now, order, number, what, place = heapq.heappop(events)
        if order == -1:
            busy[place] = False
            if what == "arrival":
                done[number] = now
            begin(place, now)
        elif what == "frame":
            for site in range(sites):
                queue[site].append(("frame", number))
                begin(site, now)
        elif chosen[number][0] < sites:  # the cloud has no queue, and what is refused ends here
            queue[chosen[number][0]].append(("arrival", number))
            begin(chosen[number][0], now)
    delays = []
    for k, (site, share) in enumerate(chosen):
        if site > sites:
            delays.append(0.0)
            continue
        if site == sites:
            work = _work_s(scenario, requests, k, share) / scenario.cloud.speed
            delays.append(scenario.cloud.distance_s + work)
            continue
        way = 0.0 if site == requests.home[0, k] else scenario.hop_s + scenario.upload_mbit / scenario.rate_mbit_s
        back = scenario.result_mbit / scenario.rate_mbit_s
        delays.append(done[k] - float(requests.arrival_s[0, k]) + way + back)
    return delays


def _work_s(scenario: FleetScenario, requests: Requests, k: int, share: float) -> float:
    model = scenario.kinds_of_models[int(requests.model[0, k])]
    steps = model.least_steps + int(share * (model.full_steps - model.least_steps))
    return float(requests.pictures[0, k]) * (model.fixed_s + steps * model.step_s)
