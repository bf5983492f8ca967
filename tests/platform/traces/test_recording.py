# SPDX-License-Identifier: Apache-2.0
"""Worlds from recordings: times that are found again, a service that is found again, and the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import yaml
from typer.testing import CliRunner

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.records import read_records, schema
from edgegen.envs.core.scenarios import build_scenario, load_scenario
from edgegen.envs.fleet.draws import draw_requests
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.platform.cli import app
from edgegen.platform.traces.recording import fitted_fleet, from_recording
from edgegen.platform.traces.served_times import Served, amount, fit_times, noise

EDGES, MODELS = ("a", "b"), ("m", "n")
SPEED, FIXED_S, STEP_S = np.array([3.0, 1.0]), np.array([0.5, 0.0]), np.array([0.1, 0.4])


def served_table(number: int = 400, spread: float = 0.0, steps: tuple[int, ...] = (10, 20), loads: float = 0.2) -> Any:
    """Requests as two edges with two models would have served them, by the equations of the world."""
    rng = np.random.default_rng(0)
    edge, model = rng.integers(2, size=(2, number))
    pictures, made = rng.integers(1, 4, number), rng.choice(steps, number)
    noise = np.exp(spread * rng.standard_normal(number) - spread**2 / 2)
    generation_s = pictures * (FIXED_S[model] + made * STEP_S[model]) / SPEED[edge] * noise
    load_s = np.where(rng.random(number) < loads, np.array([2.0, 3.0])[model] * rng.choice([0.5, 1.5], number), 0.0)
    rows = [
        {
            **dict.fromkeys(schema().names),
            "arrival_s": 100.0 + 2 * k,
            "model": MODELS[model[k]],
            "edge": EDGES[edge[k]],
            "home": EDGES[k % 2],
            "pictures": int(pictures[k]),
            "steps": int(made[k]),
            "steps_done": int(made[k]),
            "least_steps": 5,
            "deadline_s": float(rng.choice([10.0, 20.0])),
            "weight": 1.0,
            "queue_s": 0.25 * (k % 2),
            "load_s": float(load_s[k]),
            "load_source": "disk" if load_s[k] else "resident",
            "generation_s": float(generation_s[k]),
            "total_s": float(generation_s[k] + load_s[k] + 0.25 * (k % 2) + 0.05 * (1 + edge[k])),
            "outcome": "served",
            "policy": "earliest",
        }
        for k in range(number)
    ]
    return pyarrow.Table.from_pylist(rows, schema())


def base(**changes: Any) -> FleetScenario:
    """Two sites with two models of whose times only the size is known."""
    model = {"size_gb": 1.0, "load_s": 1.0, "step_s": 0.2, "fixed_s": 0.1, "full_quality": 0.9, "least_quality": 0.3}
    return build_scenario(
        {
            "kind": "fleet",
            "name": "base",
            "description": "",
            "sites": 2,
            "speed": [2.0, 2.0],
            "memory_gb": [1.5, 1.5],
            "load": 0.5,
            "cloud": {"speed": 1, "distance_s": 1, "price": 1},
            "deadline_s": {"low": 5, "high": 9},
            "weight": {"low": 1, "high": 1},
            "models": [{**model, "least_steps": 4, "full_steps": 16}] * 2,
            **changes,
        },
        FleetScenario,
    )


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_times_are_found_again(spread: float) -> None:
    served = Served.of(served_table(4000, spread), EDGES, MODELS)
    times = fit_times(served, np.array([2.0, 2.0]), np.array([0.1, 0.1]), np.array([0.2, 0.2]))
    rel = 1e-6 if spread == 0 else 0.05
    assert times.speed == pytest.approx(SPEED, rel=rel)
    assert times.step_s == pytest.approx(STEP_S, rel=rel)
    assert times.fixed_s == pytest.approx(FIXED_S, abs=1e-6 if spread == 0 else 0.2)
    assert times.residual.std() == pytest.approx(np.sqrt(np.expm1(spread**2)), abs=0.02)
    factors = noise(times.residual)
    if spread == 0:
        assert factors is None
    else:
        assert factors is not None
        assert np.mean(factors["shape"]["points"]) == pytest.approx(times.residual.mean(), rel=1e-4)


def test_what_can_not_be_told_stays_as_it_was_known() -> None:
    served = Served.of(served_table(400, steps=(10,)), EDGES, MODELS)
    speed, fixed_s, step_s = np.array([2.0, 2.0, 7.0]), np.array([0.1, 0.1, 0.3]), np.array([0.2, 0.2, 0.6])
    times = fit_times(served, speed, fixed_s, step_s)
    assert times.speed.sum() == pytest.approx(11)
    assert times.fixed_s / times.step_s == pytest.approx([0.5] * 3)  # all asked for the same steps
    work = times.fixed_s + 10 * times.step_s
    both = (FIXED_S + 10 * STEP_S)[:, None] / SPEED
    assert work[:2, None] / times.speed[:2] == pytest.approx(both)


def test_an_edge_may_be_faster_with_one_model() -> None:
    table = served_table(2000, steps=(10,)).to_pandas()
    table.loc[(table["edge"] == "a") & (table["model"] == "m"), "generation_s"] /= 2
    served = Served.of(pyarrow.Table.from_pandas(table, schema(), preserve_index=False), EDGES, MODELS)
    times = fit_times(served, np.array([2.0, 2.0]), np.array([0.1, 0.1]), np.array([0.2, 0.2]))
    work = times.fixed_s + 10 * times.step_s
    took_s = work / (times.speed[:, None] * times.factor)
    expected = (FIXED_S + 10 * STEP_S) / SPEED[:, None]
    expected[0, 0] /= 2
    assert took_s == pytest.approx(expected)


def test_amounts() -> None:
    assert amount(np.array([3.0, 3.0, 5.0, 3.0]))["shape"]["weights"] == [0.75, 0.25]
    assert amount(np.ones(7)) == {"low": 1.0, "high": 1.0}
    many = amount(np.linspace(0, 1, 1000))
    assert len(many["shape"]["points"]) == 20
    assert np.mean(many["shape"]["points"]) == pytest.approx(0.5, rel=1e-4)
    assert noise(np.ones(1000)) is None
    assert noise(np.array([0.5, 1.5])) is None


def test_whole_world_by_hand() -> None:
    world = fitted_fleet(served_table(4000), "Recording", base(), EDGES, MODELS)
    assert world.speed == pytest.approx((3.0, 1.0))
    first, second = world.models
    assert (first.step_s, second.step_s) == pytest.approx(tuple(STEP_S))
    assert (first.load_s, second.load_s) == pytest.approx((2.0, 3.0), rel=0.1)
    assert world.loading.noise is not None
    assert (world.loading.noise.low, world.loading.noise.high) == pytest.approx((0.5, 1.5), rel=0.1)
    assert world.loading.noise.mean == pytest.approx(1, rel=1e-3)
    assert world.popularity.shares == pytest.approx((0.5, 0.5), abs=0.02)
    assert world.asked_steps is not None
    assert (world.asked_steps.low, world.asked_steps.high) == (10, 20)
    assert [model.least_steps for model in world.models] == [5, 5]
    assert (world.deadline_s.low, world.deadline_s.high) == (10, 20)
    assert world.memory_gb == (1.5, 1.5)
    # The ways: 0.05 s from the one edge, 0.1 s from the other.
    there_s, back_s = world.ways_s
    assert there_s == pytest.approx(np.zeros((2, 2)))
    assert back_s == pytest.approx(np.array([[0.05, 0.1]] * 2))
    requests = draw_requests(world, 0, range(4))
    assert requests.number.mean() / world.duration_s == pytest.approx(0.5, rel=0.05)  # one every two seconds


def test_names_and_models_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"^Recording has requests for 'n', but the models are m; give the config"):
        fitted_fleet(served_table(), "Recording", base(), EDGES, ("m",))
    with pytest.raises(InputError, match="no request that was served by x, y"):
        fitted_fleet(served_table(), "Recording", base(), ("x", "y"), MODELS)


def test_edges_and_models_are_seen_in_the_recording() -> None:
    world, edges, models = from_recording(served_table(loads=0.02), "Recording", base())
    assert world.memory_gb == (2.0, 2.0)
    # Every other request is for the other model, so with room for one half of them are loads.
    world, edges, models = from_recording(served_table(loads=0.5), "Recording", base())
    assert world.memory_gb == (1.0, 1.0)
    assert (edges, models) == (["a", "b"], ["m", "n"])
    assert (world.sites, len(world.models)) == (2, 2)
    fitted = fitted_fleet(served_table(), "Recording", world, edges, models)
    ratio = np.array(fitted.speed)
    assert ratio[0] / ratio[1] == pytest.approx(3)
    assert fitted.models[1].step_s / ratio[1] == pytest.approx(0.4)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a service, and with its recording of 5,000 requests."""
    pytest.importorskip("diffusers")
    from tests.serve.record.emulated import requests_of, serve_requests, service, service_fields

    folder = tmp_path_factory.mktemp("recorded")
    serve_requests(service(folder, policy="price-greedy"), requests_of(5000, 1.2, seed=0))
    (folder / "service.yaml").write_text(yaml.safe_dump(service_fields(folder, policy="price-greedy"), sort_keys=False))
    return folder


@pytest.mark.parametrize("arrivals", ["fitted", "recorded"])
def test_five_thousand_requests_give_a_world_with_the_delays_that_were_served(
    arrivals: str, recorded: Path, tmp_path: Path
) -> None:
    assert len(read_records(recorded / "recordings")) == 5000
    out = tmp_path / "mine.yaml"
    arguments = ["trace", "fit", str(recorded / "recordings"), "--config", str(recorded / "service.yaml")]
    result = CliRunner().invoke(app, [*arguments, "--out", str(out), "--arrivals", arrivals, "--check", "16"])
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line.split() for line in result.stdout.splitlines() if " delay, s " in line}
    for which in ("p50", "p95"):
        served, simulated = map(float, lines[which][-2:])
        assert simulated == pytest.approx(served, rel=0.1), which
    world = load_scenario(str(out), None, FleetScenario)
    assert world.speed == pytest.approx((4, 2, 2, 1), rel=1e-3)
    assert [model.step_s for model in world.models] == pytest.approx([0.1, 0.2, 0.3], rel=1e-3)
    assert (world.recorded is not None) == (arrivals == "recorded")
    if world.recorded is not None:
        whole_s = float(np.trace(world.recorded_work_s))
        assert world.recorded_second_s(whole_s) == pytest.approx(1, rel=1e-4)  # as fast as it was


def test_a_folder_is_taken_wherever_a_trace_is(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    pyarrow.parquet.write_table(served_table(), folder / "x.parquet")
    (tmp_path / "w.yaml").write_text("extends: fleet-8\nname: w\nrecorded: {trace: ./recordings}\n")
    for arguments in (
        ["trace", "import", str(folder), "--out", str(tmp_path / "t.parquet")],
        ["trace", "compare", str(folder), "fleet-8"],
        ["trace", "fit", str(folder), "--out", str(tmp_path / "f.yaml"), "--check", "0"],
        ["scenarios", str(tmp_path / "w.yaml")],
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
    world = load_scenario("fleet-8", {"recorded": {"trace": str(folder)}}, FleetScenario)
    own = load_scenario("fleet-8", {"recorded": {"trace": str(tmp_path / "t.parquet")}}, FleetScenario)
    beside = load_scenario(str(tmp_path / "w.yaml"), None, FleetScenario)
    drawn = [draw_requests(one, 3, range(2)).arrival_s for one in (world, own, beside)]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] == drawn[2]).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--arrivals", "record"], "must be fitted or recorded. Did you mean 'recorded'?"),
        (["--config", "fleet", "-s", "fleet-8"], "--config and --scenario both say which edges there are"),
        (["--config", "fleet"], "but the models are shapes-64, shapes-64-fast"),
    ],
)
def test_what_can_not_be_fitted_is_refused(arguments: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    pyarrow.parquet.write_table(served_table(), tmp_path / "r" / "x.parquet")
    line = ["trace", "fit", str(tmp_path / "r"), "--out", str(tmp_path / "x.yaml"), *arguments]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 2
    assert words in result.output.replace("\n", " ")
    assert not (tmp_path / "x.yaml").exists()
