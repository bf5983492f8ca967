# SPDX-License-Identifier: Apache-2.0
"""Served sequences are judged as the simulator judges its own episodes."""

from __future__ import annotations

import numpy as np
import pytest

from edgegen.algorithms.core.catalog import make_policy
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.fleet import physics
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.platform.runs.episode import play_episode
from edgegen.platform.runs.episodes import evaluation_seed
from edgegen.serve.load.sending import Answered
from edgegen.serve.load.sequence import Sequence, sequence_of
from edgegen.serve.load.served import record_of, results_of, values_of

SEED = 5


def service(**changes: object) -> FleetScenario:
    """A fleet like a service: what arrives over no distance, so that a delay is waiting and work alone."""
    scenario = load_scenario("fleet-8:scarce", overrides={"frames": 2, "sites": 3, **changes})
    assert isinstance(scenario, FleetScenario)
    return scenario


def sequence(scenario: FleetScenario) -> Sequence:
    models = [f"m{number}" for number in range(len(scenario.kinds_of_models))]
    return sequence_of(scenario, ["a", "b", "c"], models, lambda model, rng: f"{model} {rng.integers(9)}", 7)


def test_simulated_episode_is_judged_as_the_simulator_does() -> None:
    scenario = service(sites=3, speed=[2, 1, 0.5], memory_gb=[8, 7, 6])
    episode = play_episode(scenario, {"rule": make_policy("earliest", scenario, 0)}, seed=SEED)
    (played,) = episode.played
    seed = evaluation_seed(SEED)
    sent = sequence_of(scenario, ["a", "b", "c"], [*"uvwxyz"], lambda model, rng: "x", seed)
    served = played.record.served
    names = ("a", "b", "c", "cloud")
    answers = [
        Answered(
            asked,
            200,
            float(served["delay_s"][k]),
            edge=names[int(served["site"][k])],
            steps=int(served["steps"][k]),
            queue_s=float(served["wait_s"][k]),
            load_s=float(served["load_s"][k]),
            generation_s=float(served["generation_s"][k]),
        )
        for k, asked in enumerate(sent.asked)
    ]
    results = results_of(sent, answers, cloud="cloud")
    np.testing.assert_allclose(results[:, physics.UTILITY], served["utility"], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(results[:, physics.LATE] > 0, served["late"])
    values = values_of(sent, results)
    for name in ("utility", "lost_utility", "late_share", "quality", "delay_s", "p95_delay_s", "fairness"):
        assert values[name][0] == pytest.approx(played.values[name][0], abs=1e-9), name
    record = record_of(sent, results)
    np.testing.assert_array_equal(record.arrivals["arrival_s"], played.record.arrivals["arrival_s"])
    assert record.end_s == pytest.approx(played.record.end_s, abs=1.0)
    assert (record.loads["done_s"] > record.loads["begun_s"]).all()
    assert record.names == ("a", "b", "c")


@pytest.mark.parametrize(("refuse_price", "worth"), [(None, -0.2), (0.05, -0.05)])
def test_request_without_a_picture_costs_what_refusing_does(refuse_price: float | None, worth: float) -> None:
    sent = sequence(service(speed=[1, 1, 1], memory_gb=[8, 8, 8], refuse_price=refuse_price))
    answers = [Answered(asked, 429, 0.1, refusal="full") for asked in sent.asked]
    results = results_of(sent, answers)
    np.testing.assert_allclose(results[:, physics.UTILITY], [worth * asked.weight for asked in sent.asked])
    values = values_of(sent, results)
    assert values["refused_share"][0] == 1
    assert values["late_share"][0] == (refuse_price is None)
    assert len(record_of(sent, results).queues["site"]) == 0


def test_late_picture_keeps_what_decays() -> None:
    sent = sequence(service(speed=[1, 1, 1], memory_gb=[8, 8, 8], late_decay=2.0))
    asked = sent.asked[0]
    full = sent.scenario.kinds_of_models[int(sent.drawn.model[0, 0])]
    late = Answered(asked, 200, 1.5 * asked.deadline_s, edge=asked.home, steps=full.full_steps)
    (result,) = results_of(sent, [late])
    expected = asked.weight * (full.full_quality * np.exp(-1.0) - 0.2) - 0.005 * 1.5 * asked.deadline_s
    assert result[physics.UTILITY] == pytest.approx(expected)


def test_names_must_be_as_many_as_sites_and_models() -> None:
    with pytest.raises(ValueError, match="2 edges and 6 models were named, but the scenario has 3 sites"):
        sequence_of(service(), ["a", "b"], [*"uvwxyz"], lambda model, rng: "x", 0)


def test_sequence_is_the_same_for_the_same_seed() -> None:
    scenario = service()
    first = sequence(scenario).asked
    assert sequence(scenario).asked == first
    assert [asked.at_s for asked in first] == sorted(asked.at_s for asked in first)
