# SPDX-License-Identifier: Apache-2.0
"""Measures by hand, laws that are found again, and a world that is like the trace that it was fitted to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edgegen.envs.core.scenarios import build_scenario, load_scenario
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.traces import Trace
from edgegen.platform.cli import app
from edgegen.platform.traces.fitting import bursts_of, fitted, mix, zipf_slope
from edgegen.platform.traces.formats import read_format
from edgegen.platform.traces.measures import DAY_S, curve_period_s, day_curve, dispersion, drawn_trace, measured


def at(*times_s: float) -> Trace:
    return Trace(np.array(times_s, dtype=np.float64))


def busy_days(days: int = 4, seed: int = 1) -> Trace:
    """Days of which the first six hours have 3.4 times the mean rate, and the others a fifth; models by Zipf 1.2."""
    rng = np.random.default_rng(seed)
    hour = np.arange(24 * days)
    count = rng.poisson(np.where(hour % 24 < 6, 51, 3))
    arrival_s = np.sort((np.repeat(hour, count) + rng.random(count.sum())) * 3600)
    share = np.arange(1, 21.0) ** -1.2
    model = rng.choice(20, len(arrival_s), p=share / share.sum()).astype(str).astype(object)
    pictures = rng.choice([1.0, 4.0], len(arrival_s), p=[0.75, 0.25])
    columns = {"arrival_s": arrival_s, "model": model, "pictures": pictures}
    return Trace.of(columns, "Trace", str)


def switching(calm: float, burst: float, calm_s: float, burst_s: float, seed: int) -> Trace:
    """Two requests a second on average, more and less in turns of exponential length."""
    rng = np.random.default_rng(seed)
    parts, now_s, bursting = [], 0.0, False
    while now_s < 40_000:
        length_s = rng.exponential(burst_s if bursting else calm_s)
        number = rng.poisson(2 * (burst if bursting else calm) * length_s)
        parts.append(now_s + np.sort(rng.random(number)) * length_s)
        now_s, bursting = now_s + length_s, not bursting
    return at(*np.concatenate(parts))


def test_measures_by_hand() -> None:
    trace = at(0, 1, 2, 3, 4, 5, 10, 11, 12, 13)
    # Windows of 2 s: 2, 2, 2, 0, 0, 2 and 2; mean 10/7, variance 40/7 of 7 less the square.
    assert dispersion(trace, 2.0) is None  # only 7
    count = np.array([1] * 6 + [0] * 4 + [1] * 4)
    assert dispersion(trace, 1.0) == pytest.approx(count.var() / count.mean())
    assert curve_period_s(trace) == trace.period_s
    assert day_curve(at(0, 1, 5), 24.0).tolist() == [8, 8, 0, 0, 0, 8, *[0] * 18]  # nobody came after that
    days = at(0, 1, 3601, DAY_S, DAY_S + 3600, 2 * DAY_S)  # its period ends a fifth after two days
    curve = day_curve(days, DAY_S)
    # Three times in the first hour, twice in the second; the third day ends in its tenth hour.
    begun = np.array([3] * 9 + [2.6] + [2] * 14)
    assert days.period_s == pytest.approx(2.4 * DAY_S)
    assert curve.argmax() == 0
    rates = np.bincount([0, 0, 1, 0, 1, 0], minlength=24) / begun
    assert curve == pytest.approx(rates / rates.mean())


@pytest.mark.parametrize("slope", [0.6, 1.0, 2.2])
def test_the_exponent_of_a_zipf_law_is_found_again(slope: float) -> None:
    share = np.arange(1, 51.0) ** -slope
    assert zipf_slope(1e6 * share / share.sum(), 50) == pytest.approx(slope, abs=1e-3)
    # Three of which the second and third are asked for half as often: the law has the mean logarithm.
    x = zipf_slope(np.array([2.0, 1.0, 1.0]), 3)
    own = np.arange(1, 4.0) ** -x
    assert (own @ np.log([1, 2, 3])) / own.sum() == pytest.approx(np.log(6) / 4, abs=1e-4)
    assert zipf_slope(np.array([2.0, 1.0, 0.5, 0.5]), 3) == pytest.approx(x, abs=1e-6)  # more than the world has
    assert zipf_slope(np.array([2.0, 1.0, 1.0]), 30) > x  # many that nobody asked for


def test_values_that_hardly_anybody_asks_for_are_left_out() -> None:
    values = np.array([30.0] * 600 + [50.0] * 399 + [7.0])
    assert mix(values) == {
        "low": 30.0,
        "high": 50.0,
        "shape": {"kind": "empirical", "points": [30.0, 50.0], "weights": [0.6006, 0.3994]},
    }


def test_bursts_are_found_again() -> None:
    found = bursts_of(switching(0.5, 3.0, 200.0, 50.0, 2), None)  # a fifth of the time, mean 1
    assert found is not None
    assert found["calm"] == pytest.approx(0.5, abs=0.12)
    assert found["burst"] == pytest.approx(3.0, abs=0.45)
    assert found["mean_calm_s"] == pytest.approx(200.0, rel=0.35)
    assert found["mean_burst_s"] == pytest.approx(50.0, rel=0.35)
    share = found["mean_burst_s"] / (found["mean_calm_s"] + found["mean_burst_s"])
    assert (1 - share) * found["calm"] + share * found["burst"] == pytest.approx(1)


def test_where_all_come_by_themselves_there_are_no_bursts() -> None:
    rng = np.random.default_rng(4)
    assert bursts_of(at(*np.sort(rng.random(20_000) * 10_000)), None) is None
    assert bursts_of(at(0, 1, 5), None) is None


def test_a_fitted_world_is_like_its_trace() -> None:
    trace, base = busy_days(), load_scenario("fleet-gentd:day-burst")
    base = build_scenario({**base.model_dump(mode="json"), "models": [base.models[0].model_dump()] * 20}, FleetScenario)
    world = build_scenario({**base.model_dump(mode="json"), **fitted(trace, base)}, FleetScenario)
    assert world.bursts is None  # the day says it all
    assert world.popularity.exponents[0] == pytest.approx(1.2, abs=0.1)
    assert world.pictures.mean == pytest.approx(1.75, abs=0.1)
    assert world.asked_steps == base.asked_steps
    own = measured(trace, DAY_S)
    drawn = measured(drawn_trace(world, trace, 3), DAY_S)
    assert drawn.requests == pytest.approx(own.requests, rel=0.15)
    assert drawn.rate_s == pytest.approx(own.rate_s, rel=0.15)
    assert np.sort(drawn.curve) == pytest.approx(np.sort(own.curve), abs=0.8)
    assert drawn.dispersion[2] == pytest.approx(own.dispersion[2], rel=0.25)
    assert drawn.shares is not None
    assert own.shares is not None
    assert drawn.shares[:3] == pytest.approx(own.shares[:3], abs=0.05)


def test_the_commands_fit_and_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.parquet").write_bytes(busy_days(3).to_parquet({}))

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["trace", *words])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    run("fit", "t.parquet", "--out", "mine.yaml", "-s", "fleet-gentd:day-burst")
    text = Path("mine.yaml").read_text()
    assert load_scenario("mine.yaml").name == "mine"
    run("fit", "t.parquet", "--out", "mine.yaml", "-s", "fleet-gentd:day-burst")
    assert Path("mine.yaml").read_text() == text
    shown = run("compare", "t.parquet", "mine.yaml", "--out", "p.png", "--json", "c.json")
    assert "hit ratio of Belady with room for 4" in shown
    assert Path("p.png").stat().st_size > 10_000
    assert Path("p.svg").exists()
    data = json.loads(Path("c.json").read_text())["measured"]
    assert data["requests"]["trace"] == len(busy_days(3))
    assert data["hit ratio of LRU with room for 2"]["trace"] < data["hit ratio of Belady with room for 2"]["trace"]
    assert data["variance over mean in 60 min"]["world"] > 1


def test_a_trace_of_times_only_can_be_fitted_and_compared(tmp_path: Path) -> None:
    trace, words = tmp_path / "t.parquet", ["trace", "fit", str(tmp_path / "t.parquet"), "--out"]
    trace.write_bytes(switching(0.5, 3.0, 200.0, 50.0, 2).to_parquet({}))
    result = CliRunner().invoke(app, [*words, str(tmp_path / "w.yaml"), "-s", "fleet-8:day"])
    assert result.exit_code == 0, result.output
    world = load_scenario(tmp_path / "w.yaml")
    assert world.day is None
    assert world.bursts is not None
    assert world.popularity == load_scenario("fleet-8").popularity
    result = CliRunner().invoke(app, ["trace", "compare", str(trace), str(tmp_path / "w.yaml")])
    assert result.exit_code == 0, result.output
    assert "variance over mean in 10 min" in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "t.parquet", "--out", "w.txt"], "The scenario 'w.txt' must end in .yaml."),
        (["fit", "t.parquet", "--out", "w.yaml", "-s", "stable"], "stable"),
        (["fit", "t.parquet", "--out", "t.parquet"], "is both the trace and the scenario"),
        (["compare", "t.parquet", "flet-8"], "Did you mean 'fleet-8'?"),
        (["compare", "none.parquet", "fleet-8"], "There is no trace file 'none.parquet'"),
        (["compare", "wrong.parquet", "fleet-8"], "is no Parquet file that can be read"),
    ],
)
def test_what_can_not_be_is_refused_in_a_sentence(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.parquet").write_bytes(at(0, 1, 2).to_parquet({}))
    Path("wrong.parquet").write_text("arrival_s\n")
    result = CliRunner().invoke(app, ["trace", *words])
    assert result.exit_code == 2, (result.output, result.exception)
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.skipif("EDGEGEN_GENTD26" not in os.environ, reason="EDGEGEN_GENTD26 names no request file")
def test_what_is_known_of_the_public_file() -> None:
    found = measured(read_format(Path(os.environ["EDGEGEN_GENTD26"]), "gentd26").trace, DAY_S)
    assert found.dispersion == pytest.approx((3.8, 27, 140), rel=0.03)
    assert found.lru == pytest.approx([0.25, 0.43, 0.66, 0.85], abs=0.006)
    assert found.belady == pytest.approx([0.45, 0.63, 0.81, 0.92], abs=0.006)
