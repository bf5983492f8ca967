# SPDX-License-Identifier: Apache-2.0
"""Simple rules: decisions worked out by hand, brute force, frequencies, and the published levels of delay."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.algorithms.core.policy import Policy, sample_shares
from edgegen.algorithms.rules.offloading import RULES, make_rule
from edgegen.algorithms.rules.routing import water_fill
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.view import RouterView, Tasks
from edgegen.envs.offloading.world import OffloadingWorld


def slot(
    backlog: list[float],
    capacity: list[float],
    workload: list[list[float]],
    rate: float = 1e12,
    size: float = 0.0,
    copies: int = 1,
) -> RouterView:
    """A slot of identical copies; a workload of 0 means no task. With the default rate, sending takes no time."""
    work = torch.tensor(workload, dtype=torch.float64).expand(copies, -1, -1)
    servers = len(capacity)
    tasks = Tasks(work > 0, torch.full_like(work, size), work, torch.zeros_like(work))
    return RouterView(
        0,
        torch.tensor([backlog], dtype=torch.float64).expand(copies, servers),
        torch.tensor([capacity], dtype=torch.float64).expand(copies, servers),
        torch.full((copies, servers), rate, dtype=torch.float64),
        tasks,
    )


def decide(policy: Policy, observation: RouterView) -> torch.Tensor:
    return policy.act("router", observation, policy.begin("router", observation))[0]


def frequencies(policy: Policy, observation: RouterView) -> list[float]:
    """How often the task of server 0 goes to each server, over the copies."""
    chosen = decide(policy, observation)[:, 0, 0]
    return (torch.bincount(chosen, minlength=observation.backlog_gcycles.shape[1]) / len(chosen)).tolist()


@pytest.mark.parametrize("name", list(RULES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_rule_plays_an_episode_and_repeats_itself(name: str, dtype: torch.dtype) -> None:
    simulator = OffloadingWorld(load_scenario("demo", {"slots": 6}), copies=3, dtype=dtype)
    totals = []
    for _ in range(2):
        policy, observation, total = make_rule(name, seed=3), simulator.reset(seed=1), 0.0
        memory = policy.begin("router", observation)
        while not simulator.done:
            server, memory = policy.act("router", simulator.observe(), memory)
            assert server.dtype == torch.int64
            assert server.shape == (3, 5, 15)
            total += float(simulator.decide(server).delays.total_s.sum())
        totals.append(total)
    assert totals[0] == totals[1]
    assert policy.name == name
    assert policy.information


def test_an_unknown_rule_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"'round-robbin'; rules are uniform, .*Did you mean 'round-robin'\?"):
        make_rule("round-robbin")


def test_local_stays_at_home() -> None:
    assert decide(make_rule("local"), slot([9, 9, 0], [1, 1, 99], [[1, 1], [1, 0], [0, 0]])).tolist() == [
        [[0, 0], [1, 1], [2, 2]]
    ]


def test_round_robin_deals_in_turn_across_slots() -> None:
    rule, observation = make_rule("round-robin"), slot([0, 0, 0], [1, 1, 1], [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    chosen, memory = rule.act("router", observation, rule.begin("router", observation))
    assert chosen[0, 0].tolist() == [0, 1, 2, 0]
    assert chosen[0, 1, :2].tolist() == [1, 2]
    assert memory["turn"].tolist() == [[1, 0, 2]]
    assert rule.act("router", observation, memory)[0][0, 0].tolist() == [1, 2, 0, 1]


def test_uniform_and_capacity_weighted_frequencies() -> None:
    observation = slot([5, 0, 0], [1, 3, 6], [[1], [0], [0]], copies=40_000)
    assert frequencies(make_rule("uniform"), observation) == pytest.approx([1 / 3] * 3, abs=0.012)
    assert frequencies(make_rule("capacity-weighted"), observation) == pytest.approx([0.1, 0.3, 0.6], abs=0.012)


def test_power_of_two_takes_the_shorter_of_two_draws() -> None:
    # Draws by capacity 1:1:2. Waits 4, 0, 1 s: server 1 wins whenever drawn, 1 - (3/4)^2; server 0 only against
    # itself, (1/4)^2; server 2 the rest.
    observation = slot([4, 0, 2], [1, 1, 2], [[1], [0], [0]], copies=40_000)
    assert frequencies(make_rule("power-of-two"), observation) == pytest.approx([1 / 16, 7 / 16, 8 / 16], abs=0.012)


def test_least_delay_by_hand() -> None:
    # Server 0 places 4, 2, 2; server 1 places 3. Capacities 2 and 1, backlogs 0 and 0; two servers, so own work
    # counts twice. First task: 4/2 = 2 against 4/1 = 4: server 0. Second: (8 + 2)/2 = 5 against 2: server 1.
    # Third: (8 + 2)/2 = 5 against (4 + 2)/1 = 6: server 0. Server 1's 3: 1.5 against 3: server 0.
    chosen = decide(make_rule("least-delay"), slot([0, 0], [2, 1], [[4, 2, 2], [3, 0, 0]]))
    assert chosen[0, 0].tolist() == [0, 1, 0]
    assert chosen[0, 1, 0] == 0
    # A backlog of 9 on server 0 changes the first choice: (9 + 4)/2 = 6.5 against 4.
    assert decide(make_rule("least-delay"), slot([9, 0], [2, 1], [[4], [0]]))[0, 0, 0] == 1


def test_opt_ts_sees_what_others_placed() -> None:
    # Both servers have one task of 4; capacities 2 and 1.5. The first: 2 against 2.67 s. The second: 4 against 2.67 s.
    observation = slot([0, 0], [2, 1.5], [[4], [4]])
    assert decide(make_rule("opt-ts"), observation).flatten().tolist() == [0, 1]
    assert decide(make_rule("least-delay"), observation).flatten().tolist() == [0, 0]  # it can not see the first
    # Sending 10 Mbit at 5 Mbit/s takes 2 s, which only strangers pay: everybody stays at home.
    assert decide(make_rule("opt-ts"), slot([0, 0], [2, 1.5], [[4], [4]], rate=5, size=10)).flatten().tolist() == [0, 1]
    at_home = decide(make_rule("opt-ts"), slot([0, 3], [2, 1.5], [[0], [4]], rate=5, size=10))
    assert at_home[0, 1, 0] == 0  # 2 + 2 s away against 4.67 s at home


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["by_index", "by_server"]))
def test_opt_ts_is_brute_force_in_order_of_service(seed: int, order: str) -> None:
    fields = {"tasks_per_slot.high": 4, "tasks_per_slot.low": 0, "service_order": order}
    simulator = OffloadingWorld(load_scenario("demo", fields), copies=2, dtype=torch.float64)
    simulator.reset(seed=seed)
    simulator.state.backlog_gcycles = torch.rand(2, 5, generator=torch.Generator().manual_seed(seed)).double() * 9
    observation = simulator.observe()
    chosen, tasks = decide(make_rule("opt-ts"), observation), observation.tasks
    capacity, rate = observation.capacity_gcycles_s[0].tolist(), observation.rate_mbit_s[0].tolist()
    for e in range(2):
        queue = observation.backlog_gcycles[e].tolist()
        places = [(n, b) for n in range(4) for b in range(5)]
        for n, b in sorted(places, key=lambda place: place[1]) if order == "by_server" else places:
            if not tasks.present[e, b, n]:
                continue
            d, w, r = (float(x[e, b, n]) for x in (tasks.size_mbit, tasks.workload_gcycles, tasks.result_mbit))
            delays = [(0 if a == b else d / rate[a]) + (queue[a] + w) / capacity[a] + r / rate[a] for a in range(5)]
            a = int(chosen[e, b, n])
            assert delays[a] == pytest.approx(min(delays), abs=1e-9)
            queue[a] += w


def test_water_fill_by_hand() -> None:
    # Backlogs 2, 0, 12 on capacities 1, 2, 2: waits 2, 0, 6 s. Work 10 lifts the first two to (10 + 2) / 3 = 4 s, below
    # the third: 4 - 2 = 2 and 8 - 0 = 8.
    backlog, capacity = torch.tensor([2.0, 0, 12]), torch.tensor([1.0, 2, 2])
    torch.testing.assert_close(water_fill(backlog, capacity, torch.tensor(10.0)), torch.tensor([2.0, 8, 0]))
    # Work 3 reaches 1.5 s, the second queue alone; work 26 lifts all to (26 + 14) / 5 = 8 s.
    torch.testing.assert_close(water_fill(backlog, capacity, torch.tensor(3.0)), torch.tensor([0.0, 3, 0]))
    torch.testing.assert_close(water_fill(backlog, capacity, torch.tensor(26.0)), torch.tensor([6.0, 16, 4]))


def test_water_fill_gives_work_below_the_precision_to_the_shortest_queue() -> None:
    # 1e5 + 1e-6 is 1e5 in float32, so no queue would rise; nobody may be left with shares that sum to zero.
    fill = water_fill(torch.tensor([3e5, 1e5, 2e5]), torch.tensor([1.0, 1, 1]), torch.tensor(0.0))
    assert fill.tolist() == pytest.approx([0, 1e-6, 0])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 500), st.floats(0.5, 60)), min_size=1, max_size=8),
    st.floats(1e-3, 1e4),
)
def test_water_fill_levels_what_it_fills(queues: list[tuple[float, float]], work: float) -> None:
    backlog, capacity = (torch.tensor(column, dtype=torch.float64) for column in zip(*queues, strict=True))
    fill = water_fill(backlog, capacity, torch.tensor(work, dtype=torch.float64))
    assert float(fill.sum()) == pytest.approx(work, rel=1e-9)
    assert (fill >= 0).all()
    wait = (backlog + fill) / capacity
    level = float(wait[fill > 1e-9].max())
    torch.testing.assert_close(wait[fill > 1e-9], torch.full_like(wait[fill > 1e-9], level), rtol=1e-8, atol=1e-8)
    assert (wait >= level - 1e-8).all()  # those that got nothing were higher already


def test_water_filling_places_by_share_of_the_fill() -> None:
    # Own work 5 of one server out of three stands for 15 in all, so the level is (15 + 2 + 0 + 3) / (1 + 2 + 2) = 4 s.
    # The fill is 4 - 2, 8 - 0 and 8 - 3, which makes 15.
    observation = slot([2, 0, 3], [1, 2, 2], [[5], [0], [0]], copies=40_000)
    expected = [2 / 15, 8 / 15, 5 / 15]
    assert frequencies(make_rule("water-filling"), observation) == pytest.approx(expected, abs=0.012)


def test_sample_shares_frequencies_and_edges() -> None:
    share = torch.tensor([[0.0, 1, 0, 3, 0]])
    random = torch.rand(1, 60_000, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(sample_shares(share, random)[0], minlength=5) / 60_000
    assert counts.tolist() == pytest.approx([0, 0.25, 0, 0.75, 0], abs=0.01)
    ends = sample_shares(share, torch.tensor([[0.0, 0.25, 1 - 2**-24]]))
    assert ends.tolist() == [[1, 3, 3]]  # a share of zero is never drawn, not even by 0


@pytest.mark.parametrize(
    ("name", "mean_delay_s", "tolerance_s"),
    [("uniform", 16.4, 0.3), ("local", 17.1, 0.4), ("capacity-weighted", 7.68, 0.25), ("opt-ts", 7.5, 0.25)],
)
def test_published_levels_of_delay(name: str, mean_delay_s: float, tolerance_s: float) -> None:
    """The published instance gives the delays that the authors' own code gives (mean of episode means)."""
    simulator = OffloadingWorld(load_scenario("ladts-paper"), copies=30)
    policy = make_rule(name, seed=123)
    memory = policy.begin("router", simulator.reset(seed=123))
    delay, tasks = torch.zeros(30, dtype=torch.float64), torch.zeros(30, dtype=torch.float64)
    while not simulator.done:
        server, memory = policy.act("router", simulator.observe(), memory)
        outcome = simulator.decide(server)
        delay += outcome.sum_per_copy(outcome.delays.total_s)
        tasks += outcome.sum_per_copy(torch.ones_like(outcome.delays.total_s))
    assert float((delay / tasks).mean()) == pytest.approx(mean_delay_s, abs=tolerance_s)
