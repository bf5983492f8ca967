# SPDX-License-Identifier: Apache-2.0
"""Objectives: weighted sums of terms that decide, are reported, and can come from outside."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.play import metered
from edgegen.algorithms.rules.allocation_optimum import best_allocation
from edgegen.envs.core import plugins
from edgegen.envs.core.electricity import Electricity
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.objectives import TERMS, terms_of
from edgegen.envs.core.plugins import PLUGINS_VARIABLE, plugged
from edgegen.envs.core.scenarios import build_scenario, load_scenario
from edgegen.envs.offloading.view import Tasks
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.envs.provisioning.physics import serve
from edgegen.envs.provisioning.world import ProvisioningWorld

POWERS: dict[str, Any] = {"power_w": [100, 200, 300, 400, 500]}
SMALL = {
    "demo": {"slots": 4, **POWERS, "electricity": {"price_per_kwh": [[0.1, 36.0]], "day_s": 4}},
    "fleet-8": {
        "frames": 1,
        "power_w": [100],
        "electricity": {"price_per_kwh": [0.1, 36.0], "day_s": 30},
        "upload_mbit": 1,
    },
    "t2drl-contended": {
        "frames": 2,
        "slots_per_frame": 2,
        "power_w": [100],
        "slot_s": 10,
        "electricity": {"price_per_kwh": 36.0},
    },
}
TOTALS = {"offloading": "objective", "provisioning": "mean_cost", "fleet": "utility"}


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test plugs in is forgotten at its end."""
    monkeypatch.setattr(plugins, "_names", {})
    monkeypatch.setattr(TERMS, "entries", dict(TERMS.entries))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for variable in (PLUGINS_VARIABLE, "PYTHONPATH"):
        monkeypatch.setenv(variable, os.environ.get(variable, ""))
    yield
    sys.modules.pop("own_terms", None)


@pytest.mark.parametrize(
    ("scenario", "policy"),
    [("demo", "least-delay"), ("fleet-8", "price-greedy"), ("t2drl-contended", "popular-static")],
)
def test_terms_add_up_to_the_objective_and_are_reported(scenario: str, policy: str) -> None:
    weights = {"energy": 0.5, "electricity": 0.25, "transfer": 0.125}
    world = load_scenario(scenario, {**SMALL[scenario], "objective": weights})
    kind = kind_of(world)

    played = kind.world(world, 2)
    played.reset(seed=3)
    values = metered(played, make_policy(policy, world, 0)).values()

    parts = {name: value for name, value in values.items() if name.startswith("term_")}
    assert len(parts) >= 4
    assert np.allclose(sum(parts.values()), values[TOTALS[world.kind]], rtol=1e-6)
    sign = -1 if world.kind == "fleet" else 1
    for name, metric in (("energy", "energy_kj"), ("electricity", "electricity_cost"), ("transfer", "transfer_mbit")):
        assert (values[metric] > 0).all(), metric
        assert np.allclose(parts[f"term_{name}"], sign * weights[name] * values[metric])
    assert set(kind.metrics) <= {*values}
    assert {"energy_kj", "term_energy"} <= {*kind.metrics}


@pytest.mark.parametrize("scenario", ["demo", "fleet-8", "t2drl-contended"])
def test_scenario_without_an_objective_says_nothing_of_it(scenario: str) -> None:
    world = load_scenario(scenario)

    assert not {"objective", "power_w", "electricity"} & {*world.model_dump()}
    assert not any(name.startswith("term_") for name in kind_of(world).metrics)


def test_offloading_rules_go_where_the_objective_is_least() -> None:
    # One task; server 0 is fast and draws much, server 1 is slow and draws little.
    data = load_scenario("demo").model_dump() | {
        "capacity_gcycles_s": [10, 5],
        "rate_mbit_s": [1000, 1000],
        "power_w": [1000, 10],
        "slots": 1,
        "tasks_per_slot": {"low": 1, "high": 1},
    }
    for weight, chosen in ((0.0, 0), (100.0, 1)):
        world = OffloadingWorld(build_scenario({**data, "objective": {"energy": weight}}))
        view = world.reset(seed=0)
        tasks = Tasks(*(values.clone() for values in vars(view.tasks).values()))
        tasks.present[0, 1] = False
        for rule in ("least-delay", "opt-ts", "priced-greedy"):
            policy = make_policy(rule, world.scenario, 0)
            alone = type(view)(**{**vars(view), "tasks": tasks})
            action, _ = policy.act("router", alone, policy.begin("router", alone))
            assert action[0, 0, 0] == chosen, (rule, weight)


def test_offloading_reward_is_what_the_equations_say_by_hand() -> None:
    changes = {**SMALL["demo"], "objective": {"delay": 2, "energy": 3, "electricity": 5, "transfer": 7}}
    world = OffloadingWorld(load_scenario("demo", changes), 1, dtype=torch.float64)
    view = world.reset(seed=1)
    outcomes = []
    for _ in range(4):
        outcomes.append((view, world.decide(torch.zeros_like(view.tasks.present, dtype=torch.long))))
        view = world.observe()

    for slot, (seen, outcome) in enumerate(outcomes):
        price = (0.1, 36.0)[slot // 2] / 3600  # a day of 4 s has two parts; money per kJ
        by_hand = torch.zeros(5, dtype=torch.float64)
        for task in range(len(outcome.copy)):
            edge, index = outcome.edge[task], outcome.index[task]
            energy = 0.1 * float(seen.tasks.workload_gcycles[0, edge, index]) / 12  # 100 W, 12 Gcycle/s
            moved = float(seen.tasks.size_mbit[0, edge, index] + seen.tasks.result_mbit[0, edge, index])
            cost = 2 * float(outcome.delays.total_s[task]) + (3 + 5 * price) * energy + 7 * moved * bool(edge)
            by_hand[edge] -= cost
        assert torch.allclose(outcome.rewards["router"][0], by_hand)


def test_best_allocation_makes_no_steps_that_cost_more_than_they_bring() -> None:
    changes = {"frames": 1, "slots_per_frame": 2, "power_w": [1000]}
    costs: dict[float, list[float]] = {}
    for weight in (0.0, 50.0):
        world = ProvisioningWorld(load_scenario("t2drl-contended", {**changes, "objective": {"energy": weight}}), 4)
        seen = world.reset(seed=2)
        world.cache(seen.size_gb.argsort(-1).argsort(-1) < 3)
        slot = world.observe_slot()
        plain = load_scenario("t2drl-contended", changes)
        own, other = best_allocation(world.scenario, slot), best_allocation(plain, slot)
        costs[weight] = [float(serve(world.scenario, slot, *shares).cost.mean()) for shares in (own, other)]
        steps = serve(world.scenario, slot, *own).steps
    assert costs[0.0][0] == costs[0.0][1]
    assert costs[50.0][0] < costs[50.0][1]  # what is best without energy is not best with it
    assert not steps.any()  # a step takes longer than what it is worth


def test_oracle_refuses_an_objective_that_it_can_not_minimise() -> None:
    world = load_scenario("t2drl-contended", {"power_w": [100], "objective.energy": 1})
    with pytest.raises(InputError, match="energy in its objective, but the oracle"):
        make_policy("oracle", world, 0)


@pytest.mark.parametrize(
    ("scenario", "changes", "complaint"),
    [
        ("demo", {"objective": {"quality": 1}}, "objective names 'quality', but must name some of delay, energy"),
        ("demo", {"objective": {"energi": 1}}, "Did you mean 'energy'"),
        ("demo", {"objective": {"energy": 1}}, "objective.energy needs the field power_w"),
        ("demo", {"objective": {"electricity": 1}, **POWERS}, "objective.electricity needs the field electricity"),
        ("demo", {"objective": {"delay": "much"}}, "must be a number"),
        ("demo", {"objective": [1]}, "objective"),
        ("demo", {"power_w": [1, 2]}, "power_w has 2 entries for 5 servers"),
        ("demo", {"electricity": {"price_per_kwh": [[1], [2]]}}, "has 2 rows for 5 servers"),
        ("demo", {"electricity": {"price_per_kwh": [[1, 2]] * 4 + [[1]]}}, "same parts of a day"),
        ("demo", {"electricity": {"price_per_kwh": [-1]}}, "greater than or equal to 0"),
        ("fleet-8", {"objective": {"quality": 2}}, "quality counts 1"),
        ("fleet-8", {"objective": {"cloud": 2}}, "its prices are cloud.price"),
        ("fleet-8", {"objective": {"transfer": -1}}, "must be at least 0"),
        ("fleet-8", {"late_penalty": 0.1, "objective": {"lateness": 0.3}}, "same weight; give one of them"),
        ("t2drl-contended", {"objective": {"tv": 1}}, "set delay_weight"),
        ("t2drl-contended", {"objective": {"electricity": 1}, "power_w": [1]}, "needs the field electricity"),
    ],
)
def test_what_does_not_fit_is_one_sentence(scenario: str, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        load_scenario(scenario, changes)
    assert "\n" not in str(caught.value)


def test_weight_with_a_field_of_its_own_may_stand_in_the_objective() -> None:
    world = load_scenario("fleet-8", {"objective.lateness": 0.3})
    assert world.late_penalty == 0.3
    assert build_scenario(world.model_dump()) == world
    assert "term_lateness" in kind_of(world).metrics


def test_prices_of_electricity_follow_the_time_of_day() -> None:
    flat = Electricity(price_per_kwh=36.0)  # type: ignore[arg-type]  # read as one price for all
    assert flat.prices_per_kj(3).tolist() == [[0.01, 0.01, 0.01]]
    assert flat.part_at(1e6) == 0
    varying = Electricity(price_per_kwh=((36.0, 72.0), (0.0, 3.6)), day_s=100, begins_s=40)
    assert [varying.part_at(now_s) for now_s in (0, 9.9, 10, 59.9, 60)] == [0, 0, 1, 1, 0]
    assert varying.prices_per_kj(2).tolist() == [[0.01, 0.0], [0.02, 0.001]]


PLUGIN = """
import torch
import numpy as np
from edgegen.envs.core.objectives import Term
from edgegen.envs.fleet.terms import Tariff, tariff_term

def squared(scenario, facts):
    return facts.delays.total_s**2

IMPATIENCE = Term(name="impatience", kind="offloading", title="delay squared", metric="delay_s2", measure=squared)
RENT = tariff_term("rent", "rent", lambda scenario: Tariff(request=np.array([[*range(scenario.sites), 0.0]])))
WRONG = tariff_term("wrong", "wrong", lambda scenario: Tariff(request=np.zeros((3, 2))))
TWICE = Term(name="energy", kind="offloading", title="mine", measure=squared)
"""


@pytest.mark.usefixtures("apart")
def test_terms_from_a_file_are_named_where_weights_are(tmp_path: Path) -> None:
    (tmp_path / "own_terms.py").write_text(PLUGIN)
    file = tmp_path / "mine.yaml"
    file.write_text("extends: demo\nslots: 3\nobjective: {own_terms.py:IMPATIENCE: 2}\n")

    world = load_scenario(file)
    played = OffloadingWorld(world)
    played.reset(seed=1)
    values = metered(played, make_policy("least-delay", world, 0)).values()

    assert world.objective == {"impatience": 2}
    assert "impatience" in terms_of("offloading")
    assert np.allclose(values["objective"], values["mean_delay_s"] + 2 * values["delay_s2"])
    assert load_scenario("demo", {f"objective.{tmp_path}/own_terms.py:IMPATIENCE": 1}).objective == {"impatience": 1}

    fleet = load_scenario("fleet-8", {"frames": 1, f"objective.{tmp_path}/own_terms.py:RENT": 5})
    played = kind_of(fleet).world(fleet, 1)
    played.reset(seed=1)
    rented = metered(played, make_policy("price-greedy", fleet, 0)).values()
    assert rented["rent"][0] < 0.2  # rules see what sites charge: all goes to site 0 or the cloud

    for name, complaint in (("TWICE", "already"), ("squared", "must be a rule")):
        with pytest.raises(InputError, match=complaint):
            plugged(f"{tmp_path}/own_terms.py:{name}")
    wrong = load_scenario("fleet-8", {f"objective.{tmp_path}/own_terms.py:WRONG": 1})
    with pytest.raises(InputError, match="1 parts of the day and 9 candidates"):
        kind_of(wrong).world(wrong, 1)
