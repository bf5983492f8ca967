# SPDX-License-Identifier: Apache-2.0
"""Servers that are drawn, fail, and report late: worked out by hand, and the same for every policy."""

import numpy as np
import pytest
import torch

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import build_scenario, load_scenario
from edgegen.envs.offloading.draws import LEAST_SEEN, draw_servers
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.servers import Outages, Reports
from edgegen.envs.offloading.world import OffloadingWorld


def rngs(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng([5, number]) for number in range(count)]


def test_every_episode_has_servers_of_its_own_at_the_same_load() -> None:
    scenario = load_scenario("stable:load90", {"slots": 2})
    drawn = draw_servers(scenario, 3, range(40))
    assert drawn.capacity_gcycles_s.shape == (40, 10)
    assert scenario.load == pytest.approx(0.9)
    torch.testing.assert_close(
        scenario.work_gcycles_s / drawn.capacity_gcycles_s.double().sum(1), torch.full((40,), 0.9, dtype=torch.float64)
    )
    ratio = drawn.capacity_gcycles_s.amax(1) / drawn.capacity_gcycles_s.amin(1)
    assert 3 < float(ratio.mean()) < 5  # capacities are drawn from 1 to 5
    assert drawn.rate_mbit_s.min() >= 400
    assert drawn.rate_mbit_s.max() <= 500
    assert len(drawn.capacity_gcycles_s[:, 0].unique()) == 40
    alone = draw_servers(scenario, 3, range(17, 18))
    assert torch.equal(alone.capacity_gcycles_s[0], drawn.capacity_gcycles_s[17])
    assert not torch.equal(draw_servers(scenario, 4, range(40)).capacity_gcycles_s, drawn.capacity_gcycles_s)


def test_a_set_drawn_once_is_the_seeds() -> None:
    once = {"servers": 4, "capacity_gcycles_s": {"low": 1, "high": 5}, "rate_mbit_s": {"low": 4, "high": 5}}
    sets = [load_scenario("stable", {"server_sets": {**once, "drawn": "once", "seed": seed}}) for seed in (0, 0, 1)]
    assert sets[0] == sets[1]
    assert sets[0].capacity_gcycles_s != sets[2].capacity_gcycles_s
    drawn = draw_servers(sets[0], 9, range(3))
    assert all(row == pytest.approx(sets[0].capacity_gcycles_s) for row in drawn.capacity_gcycles_s.tolist())


def test_a_family_survives_being_saved() -> None:
    for name in ("stable:b5", "links", "failing:unheard", "hot-spots", "bursty"):
        scenario = load_scenario(name)
        assert build_scenario(scenario.model_dump()) == scenario
        assert OffloadingScenario.model_validate_json(scenario.model_dump_json()) == scenario


def test_a_family_that_was_saved_can_be_changed_and_read_by_another_processor() -> None:
    saved = load_scenario("links").model_dump(mode="json")
    assert "capacity_gcycles_s" not in saved  # how it is drawn says what it is
    assert "rate_mbit_s" not in saved
    lighter = build_scenario({**saved, "server_sets": {**saved["server_sets"], "load": 0.6}})
    assert lighter == load_scenario("links", {"server_sets.load": 0.6})
    drawn = load_scenario("links")
    rates = [[rate * (1 + 1e-14) for rate in row] for row in drawn.rate_mbit_s]  # as files of before hold them
    assert build_scenario({**saved, "rate_mbit_s": rates}) == drawn
    with pytest.raises(InputError, match="rate_mbit_s is drawn by server_sets"):
        build_scenario({**saved, "rate_mbit_s": [[2 * rate for rate in row] for row in rates]})


def test_rates_of_links() -> None:
    scenario = load_scenario("links:b5", {"slots": 2})
    rate = draw_servers(scenario, 0, range(60)).rate_mbit_s
    assert rate.shape == (60, 5, 5)
    assert (rate.diagonal(dim1=1, dim2=2) == 400).all()
    apart = rate[:, ~torch.eye(5, dtype=torch.bool)]
    assert 4 <= float(apart.min()) < 5
    assert float(apart.log().mean()) == pytest.approx(np.log(40), abs=0.1)  # uniform in the logarithm


def test_delays_over_links_by_hand() -> None:
    scenario = load_scenario(
        "demo",
        {"slots": 1, "capacity_gcycles_s": [10, 10], "rate_mbit_s": [[100, 10], [20, 50]], "tasks_per_slot.high": 1},
    )
    simulator = OffloadingWorld(scenario, dtype=torch.float64)
    tasks = simulator.reset(0).tasks
    outcome = simulator.decide(torch.tensor([[[1], [1]]]))
    size, result = tasks.size_mbit[0, :, 0], tasks.result_mbit[0, :, 0]
    torch.testing.assert_close(outcome.delays.transfer_s, torch.stack([size[0] / 10, 0 * size[1]]))
    torch.testing.assert_close(outcome.delays.return_s, torch.stack([result[0] / 10, result[1] / 50]))


def test_outages_by_hand() -> None:
    outages = Outages(factor=0.2, mean_up_slots=9, mean_down_slots=1)
    assert outages.mean_factor == pytest.approx(0.92)  # 1 - 0.1 * 0.8
    share = outages.draw(rngs(30), 400, 3)
    assert set(np.unique(share)) == {0.2, 1.0}
    assert share.mean() == pytest.approx(0.92, abs=0.01)


def test_load_counts_the_capacity_that_is_there() -> None:
    assert load_scenario("failing").load == pytest.approx(0.675 / 0.9)


def test_ages_of_reports_by_hand() -> None:
    late = Reports(delay_slots=2).draw(rngs(1), 5, 1)[0, :, 0]
    assert late.tolist() == [0, 1, 2, 2, 2]  # the first report, of empty servers, is known from the beginning
    lost = Reports(loss=0.5).draw(rngs(200), 60, 4)
    assert (lost[:, 1:] <= lost[:, :-1] + 1).all()
    assert (lost[:, 0] == 0).all()
    assert (lost[:, 20:] == 0).mean() == pytest.approx(0.5, abs=0.02)
    assert lost[:, 20:].mean() == pytest.approx(1, abs=0.06)  # p / (1 - p) slots
    both = Reports(delay_slots=3, loss=0.2).draw(rngs(5), 30, 2)
    assert (both[:, 3:] >= 3).all()


def test_old_backlogs_are_those_there_were() -> None:
    scenario = load_scenario("stale:lossy", {"reports.delay_slots": 1, "slots": 12})
    simulator = OffloadingWorld(scenario, copies=3)
    simulator.reset(2)
    generator = torch.Generator().manual_seed(0)
    true = []
    while not simulator.done:
        seen = simulator.observe()
        true.append(seen.truth.backlog_gcycles)
        assert (seen.age_slots <= seen.slot).all()
        for e in range(3):
            for b in range(10):
                there = true[seen.slot - int(seen.age_slots[e, b])]
                assert seen.backlog_gcycles[e, b] == there[e, b]
        simulator.decide(torch.randint(10, seen.tasks.present.shape, generator=generator))
    assert float(true[-1].sum()) > 0


@pytest.mark.parametrize("name", ["failing:unheard", "stale", "bursty", "links"])
def test_an_interrupted_episode_goes_on_as_it_would_have(name: str) -> None:
    scenario = load_scenario(name, {"slots": 14})
    actions = [
        torch.randint(10, (2, 10, scenario.max_tasks), generator=torch.Generator().manual_seed(s)) for s in range(14)
    ]

    def play(simulator: OffloadingWorld, until: int) -> list[torch.Tensor]:
        made = []
        while simulator.state.slot < until:
            seen = simulator.observe()
            outcome = simulator.decide(actions[seen.slot])
            made += [seen.backlog_gcycles, seen.capacity_gcycles_s, outcome.delays.total_s]
        return made

    whole, first, second = (OffloadingWorld(scenario, 2) for _ in range(3))
    whole.reset(8)
    first.reset(8)
    expected = play(whole, 14)
    begun = play(first, 6)
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(begun + play(second, 14), expected, strict=True))


def test_looking_back_needs_the_history() -> None:
    simulator = OffloadingWorld(load_scenario("stale"))
    state = {**simulator.state_dict(), "slot": 4, "history_gcycles": None}
    with pytest.raises(ValueError, match="history_gcycles"):
        simulator.load_state_dict(state)


def test_failed_servers_do_nothing_and_show_almost_nothing() -> None:
    scenario = load_scenario("failing", {"slots": 30})
    simulator = OffloadingWorld(scenario, copies=4, dtype=torch.float64)
    simulator.reset(1)
    generator = torch.Generator().manual_seed(0)
    down_slots = 0
    while not simulator.done:
        seen = simulator.observe()
        down = seen.capacity_gcycles_s < simulator.capacity_gcycles_s
        torch.testing.assert_close(seen.capacity_gcycles_s[down], simulator.capacity_gcycles_s[down] * LEAST_SEEN)
        server = torch.randint(10, seen.tasks.present.shape, generator=generator)
        before = simulator.state.backlog_gcycles
        outcome = simulator.decide(server)
        work = torch.zeros_like(before).index_put_(
            (outcome.copy, outcome.server),
            seen.tasks.workload_gcycles[outcome.copy, outcome.edge, outcome.index],
            accumulate=True,
        )
        torch.testing.assert_close(simulator.state.backlog_gcycles[down], (before + work)[down])
        stuck = down[outcome.copy, outcome.server]
        assert (outcome.delays.total_s[stuck] > 1).all()  # until the end of the slot at least
        assert torch.isfinite(outcome.delays.total_s).all()
        down_slots += int(down.sum())
    assert 60 < down_slots < 200  # a tenth of 4 * 10 * 30


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"server_sets.servers": 0}, "'server_sets.servers' is 0"),
        ({"server_sets.load": 0}, "'server_sets.load' is 0"),
        ({"server_sets.capacity_gcycles_s": {"low": 5, "high": 1}}, "must not exceed high"),
        ({"capacity_gcycles_s": [1, 2]}, "capacity_gcycles_s is drawn by server_sets"),
        ({"outages": {"factor": 1, "mean_up_slots": 5, "mean_down_slots": 5}}, "'outages.factor' is 1"),
        ({"outages": {"factor": 0.5, "mean_up_slots": 5, "mean_down_slots": 0}}, "'outages.mean_down_slots' is 0"),
        ({"reports": {"loss": 1}}, "'reports.loss' is 1"),
        ({"reports": {"delay_slots": -1}}, "'reports.delay_slots' is -1"),
        ({"reports": {}}, "delay_slots or a loss above 0"),
        ({"server_sets": None}, "'capacity_gcycles_s' is missing; give it, or server_sets"),
    ],
)
def test_impossible_servers_are_refused(overrides: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load_scenario("stable", overrides)


def test_links_need_a_square() -> None:
    with pytest.raises(InputError, match=r"rate_mbit_s.1 has 1 entries, but needs one per server"):
        load_scenario("demo", {"capacity_gcycles_s": [1, 2], "rate_mbit_s": [[1, 2], [3]]})
    with pytest.raises(InputError, match=r"'rate_mbit_s.1.0' is 0"):
        load_scenario("demo", {"capacity_gcycles_s": [1, 2], "rate_mbit_s": [[1, 2], [0, 3]]})
