# SPDX-License-Identifier: Apache-2.0
"""Worlds from what a service recorded: who asked for what and when, and how long its edges took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.records import DISK, HOST, LATE, SERVED
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.fleet.hits import lru_hits
from edgegen.envs.fleet.meter import PERCENTILES
from edgegen.envs.fleet.models import Exponential
from edgegen.envs.fleet.records import trace_of
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.traces import Floats, Trace
from edgegen.platform.runs.evaluation import evaluate
from edgegen.platform.traces.fitting import bursts_of, mix
from edgegen.platform.traces.measures import DAY_S, day_curve, world_rate_s
from edgegen.platform.traces.served_times import FEW_ROWS, Served, Times, amount, fit_times, noise, short

if TYPE_CHECKING:
    import pyarrow

    from edgegen.algorithms.core.policy import Policy

LEAST_FACTOR = 0.05
"""Below this an edge is as fast with one model as with another, as a logarithm."""
USUAL = 0.95
"""Share of the requests for a model that ask for the same steps, from where these are the model's own."""
EPISODE_REQUESTS, MOST_FRAMES = 1000, 200
"""Requests that an episode has about, so that it is long beside its beginning with empty queues."""
USUAL_CURVE = Exponential(rate=3.5)
MBIT_S = 1000.0


def fitted_fleet(
    records: pyarrow.Table,
    what: str,
    base: FleetScenario,
    edges: Sequence[str],
    models: Sequence[str],
    cloud: str | None = None,
    trace_path: str | None = None,
) -> FleetScenario:
    """A world that is like the service that recorded.

    Args:
        records: What it recorded, in the order of arrival.
        what: What that is, to begin a sentence with.
        base: The service as a fleet; says everything that a recording does not.
        edges: Names of its sites, in order.
        models: Names of its models, in order.
        cloud: Name of the edge that is the cloud, if one is.
        trace_path: Where the recording is, to play windows of what came; requests like those are drawn if None.

    Raises:
        InputError: If nothing was served by these edges with these models, or what is fitted fits no world.
    """
    trace = trace_of(records, what)
    _check_names(trace, models, what)
    served = Served.of(records, (*edges, cloud) if cloud else edges, models)
    if not len(served.edge):
        raise InputError(f"{what} has no request that was served by {', '.join(edges)}; times can not be fitted.")
    speed = np.array([*base.site_speed, *([base.cloud.speed] if cloud else [])])
    fixed_s, step_s = (
        np.array([getattr(model, name) for model in base.kinds_of_models]) for name in ("fixed_s", "step_s")
    )
    times = fit_times(served, speed, fixed_s, step_s)
    data: dict[str, Any] = {
        "recorded": None,
        "sites": len(edges),
        "speed": [short(value) for value in times.speed[: len(edges)]],
        "memory_gb": [*base.site_memory_gb],
        "memory_factor": 1.0,
        "model_repeats": 1,
        "load_factor": 1.0,
        "service_noise": noise(times.residual),
        "pictures": amount(_column(records, "pictures")),
        "deadline_s": amount(_column(records, "deadline_s")),
        "weight": amount(_column(records, "weight")),
    }
    if np.abs(np.log(times.factor)).max() > LEAST_FACTOR:
        data["model_speed"] = [[short(value) for value in row] for row in times.factor[: len(edges)]]
    count = np.array([np.sum(np.asarray(trace.names)[trace.rank] == name) for name in models])
    data["popularity"] = {"shares": [short(share) for share in count / count.sum()]}
    data["models"], data["loading"] = _models(records, served, times, base, models)
    data["asked_steps"] = None if _own_steps(records, models) else mix(_column(records, "steps"))
    data |= _ways(served, base, edges, cloud, times)
    known = {**base.model_dump(mode="json"), **data}
    played = None
    if trace_path is not None:
        columns = ["model", "pictures", *(["steps"] if data["asked_steps"] else [])]
        played = {"trace": trace_path, "columns": columns, "names": list(models)}
    return _with_arrivals(trace, known, played)


def _models(
    records: pyarrow.Table, served: Served, times: Times, base: FleetScenario, names: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The models, and what there is to say of loads."""
    loading: dict[str, Any] = base.loading.model_dump(mode="json")
    own = _own_steps(records, names)
    least = np.array([np.nan if bound is None else bound for bound in records.column("least_steps").to_pylist()])
    of = np.array(records.column("model").to_pylist())
    found, relative = [], []
    for number, (name, model) in enumerate(zip(names, base.kinds_of_models, strict=True)):
        fields: dict[str, Any] = model.model_dump(mode="json", exclude_none=True)
        loads = served.load_s[(served.model == number) & (served.load_source == DISK) & (served.load_s > 0)]
        if len(loads):
            fields["load_s"] = short(loads.mean())
            relative.append(loads / loads.mean())
        mine = of == name
        if own and mine.any():
            fields["full_steps"] = int(own[name])
        chosen = least[mine & ~np.isnan(least)]
        if mine.any():  # who names the steps gets them
            free = len(chosen) > mine.sum() / 2
            fields["least_steps"] = min(int(np.median(chosen)) if free else fields["full_steps"], fields["full_steps"])
        if "least_quality" in fields and not fields["least_quality"] <= fields["full_quality"]:
            fields["least_quality"] = fields["full_quality"]
        times_s = {"step_s": times.step_s[number], "fixed_s": times.fixed_s[number]}
        found.append({**fields, **{key: short(value) for key, value in times_s.items()}})
    if relative and (spread := noise(np.concatenate(relative))) is not None:
        loading["noise"] = spread
    warm = served.load_s[(served.load_source == HOST) & (served.load_s > 0)]
    if len(warm) and loading["host_memory_gb"]:
        loading["host_s"] = short(np.median(warm))
    return found, loading


def _own_steps(records: pyarrow.Table, models: Sequence[str]) -> dict[str, float] | None:
    """Steps that nearly all ask for, by model; None where requests for a model differ."""
    steps, of = _column(records, "steps"), np.array(records.column("model").to_pylist())
    found = {}
    for name in models:
        values, count = np.unique(steps[of == name], return_counts=True)
        if len(values):
            if count.max() < USUAL * count.sum():
                return None
            found[name] = values[count.argmax()]
    return found


def _ways(served: Served, base: FleetScenario, edges: Sequence[str], cloud: str | None, times: Times) -> dict[str, Any]:
    """The ways to the edges and back, from what of the delay was nothing else, of requests that did not wait."""
    quick = served.queue_s <= np.quantile(served.queue_s, 0.5)
    usual_s = float(np.median(served.rest_s[quick]))
    rest_s = [
        float(np.median(served.rest_s[own])) if (own := quick & (served.edge == k)).sum() >= FEW_ROWS else usual_s
        for k in range(len(edges))
    ]
    data: dict[str, Any] = {"hop_s": 0.0, "upload_mbit": 0.0, "result_mbit": 0.0, "rate_mbit_s": MBIT_S}
    if min(rest_s) > 0:
        data["result_mbit"] = short(MBIT_S * min(rest_s))
        rates = [short(MBIT_S * min(rest_s) / value) for value in rest_s]
        data["rate_mbit_s"] = [rates] * len(edges) if min(rates) < 0.8 * MBIT_S else MBIT_S
    there = base.cloud.model_dump(mode="json")
    own = served.edge == len(edges)
    if cloud and own.any():
        there |= {"speed": short(times.speed[-1]), "distance_s": short(np.median(served.rest_s[own]))}
    return {**data, "cloud": there}


def _with_arrivals(trace: Trace, known: dict[str, Any], played: dict[str, Any] | None) -> FleetScenario:
    """A world with the load, the day curve and the bursts of a trace, or windows of it, and long episodes.

    Args:
        trace: The trace.
        known: All other fields.
        played: What is played of it; requests are drawn if None.
    """
    rate_s = len(trace) / trace.period_s
    frames = int(np.clip(math.ceil(EPISODE_REQUESTS / rate_s / known["frame_s"]), 5, MOST_FRAMES))
    known |= {"recorded": played, "bursts": None, "day": None, "hot_spots": None, "frames": frames, "load": 1.0}
    plain = build_scenario({**known, "frames": 1}, FleetScenario)
    if played is not None:  # as fast as it was
        return as_fast_as_it_was(build_scenario(known, FleetScenario))
    known["load"] = short(rate_s / world_rate_s(plain))
    curve = day_curve(trace, DAY_S) if trace.period_s >= 2 * DAY_S else None
    if curve is not None:
        known["day"] = {"period_s": DAY_S, "hours": curve.round(3).tolist()}
    bursts = bursts_of(trace, curve)
    if bursts is not None and min(bursts["mean_calm_s"], bursts["mean_burst_s"]) >= 1:
        known["bursts"] = {name: round(value, 4) for name, value in bursts.items()}
    return build_scenario(known, FleetScenario)


def as_fast_as_it_was(world: FleetScenario) -> FleetScenario:
    """A world that plays a recording by the names of its models, with the load at which time is not stretched."""
    assert world.recorded is not None
    load = np.trace(world.recorded_work_s) / (world.recorded.requests.period_s * sum(world.site_speed))
    return build_scenario({**world.model_dump(mode="json"), "load": short(load)}, FleetScenario)


def from_recording(
    records: pyarrow.Table, what: str, base: FleetScenario
) -> tuple[FleetScenario, list[str], list[str]]:
    """Edges and models as a recording shows them, where no config says what they are, on top of a base.

    Each model takes 1 GB. An edge has room for as many as would have had to be loaded about as often, had it evicted
    what was asked for longest ago.

    Args:
        records: What was recorded.
        what: What that is, to begin a sentence with.
        base: Says how quality rises, what the cloud is like, and what requests are worth.

    Returns:
        The scenario, names of its sites, and of its models.

    Raises:
        InputError: If nothing was served.
    """
    table = records.to_pandas()
    done = table[table["outcome"].isin([SERVED, LATE])]
    edges = sorted(done["edge"].unique().tolist())
    models = sorted(table["model"].unique().tolist())
    if not edges:
        raise InputError(f"{what} has no request that was served; times can not be fitted.")
    rooms = [_room(done[done["edge"] == edge], models) for edge in edges]
    steps = [float(table.loc[table["model"] == name, "steps"].median()) for name in models]
    model = base.models[0].model_dump(mode="json", exclude_none=True)
    model |= {"size_gb": 1.0, "fixed_s": 0.0, "step_s": 1.0 / max(steps), "full_quality": 1.0}
    if "curve" not in model and base.curve is None:
        model = {key: value for key, value in model.items() if key != "least_quality"}
        model["curve"] = USUAL_CURVE.model_dump(mode="json")
    several = [{**model, "full_steps": int(own), "least_steps": 1} for own in steps]
    nothing = (
        "recorded",
        "asked_steps",
        "extra_s",
        "further_picture",
        "outages",
        "radio",
        "bursts",
        "day",
        "hot_spots",
    )
    data = {
        **base.model_dump(mode="json"),
        **dict.fromkeys((*nothing, "hot_spots")),
        **dict.fromkeys(("memory_factor", "load_factor", "model_repeats"), 1),
        **dict.fromkeys(("hop_s", "upload_mbit", "result_mbit"), 0.0),
        "sites": len(edges),
        "speed": [1.0] * len(edges),
        "memory_gb": [float(room) for room in rooms],
        "models": several,
        "model_speed": [],
        "popularity": {},
        "loading": {},
        "pictures": {"low": 1, "high": 1},
        "rate_mbit_s": MBIT_S,
        "deadline_s": amount(_column(records, "deadline_s")),
    }
    return build_scenario(data, FleetScenario), edges, models


def _room(done: Any, models: Sequence[str]) -> int:
    """Models for which an edge has room, from how often it loaded one."""
    order = done.sort_values("arrival_s")["model"].map({name: k for k, name in enumerate(models)}).to_numpy(np.int64)
    hits = 1 - float((done["load_s"] > 0).mean())
    rooms = np.arange(1, len(models) + 1)
    # What was there at the start was never loaded, but a simulated memory is empty at first.
    first = len(np.unique(order)) / len(order)
    return int(rooms[np.abs(np.minimum(lru_hits(order, rooms) + first, 1.0) - hits).argmin()])


def _check_names(trace: Trace, models: Sequence[str], what: str) -> None:
    unknown = [name for name in trace.names if name not in models]
    if unknown:
        raise InputError(
            f"{what} has requests for '{unknown[0]}', but the models are {', '.join(models)}; give the config of the "
            "service that recorded them."
        )


def _column(records: pyarrow.Table, name: str) -> Floats:
    return np.asarray(records.column(name).to_numpy(), dtype=np.float64)


def in_charge(records: pyarrow.Table) -> str:
    """The policy that decided about most of the requests."""
    names, count = np.unique(np.array(records.column("policy").to_pylist()), return_counts=True)
    return str(names[count.argmax()])


def delays_s(records: pyarrow.Table) -> Floats:
    """Delays of the requests that got their pictures ``[N]``, s."""
    answered = np.isin(np.array(records.column("outcome").to_pylist()), (SERVED, LATE))
    return np.asarray(_column(records, "total_s")[answered])


def beside_served(
    records: pyarrow.Table, scenario: FleetScenario, policy: Policy, episodes: int, seed: int
) -> list[tuple[str, float, float]]:
    """Delays that were served, and those of the same policy in the world that was fitted: title and both values, s.

    Args:
        records: What was recorded.
        scenario: The world.
        policy: Who decides in it.
        episodes: Number of episodes that are simulated.
        seed: The person's seed.
    """
    results = evaluate(scenario, policy, episodes, seed, explore=False)
    served_s = delays_s(records)
    rows = [
        (f"p{at} delay, s", float(np.percentile(served_s, at)), float(results[name].mean()))
        for name, at in PERCENTILES.items()
    ]
    return [("mean delay, s", float(served_s.mean()), float(results["delay_s"].mean())), *rows]
