# SPDX-License-Identifier: Apache-2.0
"""The simulator: numbers worked out by hand, a plain Python oracle, and what must hold for any instance."""

import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.algorithms.rules.offloading import make_rule
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.physics import drain_backlog, place, work_ahead
from edgegen.envs.offloading.view import RouterView, Tasks
from edgegen.envs.offloading.world import OffloadingWorld

PARTS = ("transfer_s", "wait_s", "compute_s", "return_s")
PROPERTY = settings(max_examples=60, deadline=None)


def doubles(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def small_slot() -> RouterView:
    """Two servers of 10 and 5 Gcycle/s with 2 and 1 Gcycle queued; server 0 got two tasks, server 1 one."""
    tasks = Tasks(
        present=torch.tensor([[[True, True], [True, False]]]),
        size_mbit=doubles([[[2, 3], [4, 99]]]),
        workload_gcycles=doubles([[[4, 6], [5, 99]]]),
        result_mbit=doubles([[[1, 0.5], [1, 99]]]),
    )
    return RouterView(0, doubles([[2, 1]]), doubles([[10, 5]]), doubles([[100, 50]]), tasks)


def test_delays_worked_out_by_hand() -> None:
    # Order of service: task 0 of server 0, task 0 of server 1, task 1 of server 0; sent to 0, 0 and 1.
    outcome, placed = place(small_slot(), torch.tensor([[[0, 1], [0, 7]]]))  # the 7 belongs to no task
    assert outcome.edge.tolist() == [0, 1, 0]
    assert outcome.index.tolist() == [0, 0, 1]
    assert outcome.server.tolist() == [0, 0, 1]
    # transfer: at home 0; 4 Mbit at 100 Mbit/s; 3 Mbit at 50 Mbit/s
    torch.testing.assert_close(outcome.delays.transfer_s, doubles([0, 0.04, 0.06]))
    # wait: 2 / 10; (2 + 4) / 10; 1 / 5
    torch.testing.assert_close(outcome.delays.wait_s, doubles([0.2, 0.6, 0.2]))
    # compute: 4 / 10; 5 / 10; 6 / 5
    torch.testing.assert_close(outcome.delays.compute_s, doubles([0.4, 0.5, 1.2]))
    # return, charged at home too: 1 / 100; 1 / 100; 0.5 / 50
    torch.testing.assert_close(outcome.delays.return_s, doubles([0.01, 0.01, 0.01]))
    torch.testing.assert_close(outcome.delays.total_s, doubles([0.61, 1.15, 1.47]))
    torch.testing.assert_close(placed, doubles([[9, 6]]))


def test_a_third_task_waits_for_all_before_it() -> None:
    outcome, _ = place(small_slot(), torch.tensor([[[0, 0], [0, 0]]]))
    torch.testing.assert_close(outcome.delays.wait_s, doubles([0.2, 0.6, 1.1]))  # (2 + 4 + 5) / 10


def test_servers_that_are_served_one_after_the_other_wait_by_hand() -> None:
    # Both tasks of server 0 first, 4 and 6 Gcycle, then the one of server 1; all run on server 0, with 2 queued.
    outcome, _ = place(replace(small_slot(), by_server=True), torch.tensor([[[0, 0], [0, 0]]]))
    assert outcome.edge.tolist() == [0, 0, 1]
    assert outcome.index.tolist() == [0, 1, 0]
    torch.testing.assert_close(outcome.delays.wait_s, doubles([0.2, 0.6, 1.2]))
    by_index, _ = place(small_slot(), torch.tensor([[[0, 0], [0, 0]]]))
    torch.testing.assert_close(by_index.delays.wait_s, doubles([0.2, 0.6, 1.1]))


def test_drain_by_hand() -> None:
    # 2 + 9 - 10 = 1; 1 + 6 - 5 = 2; an idle server stays at 0 and does not go below
    after = drain_backlog(doubles([2, 1, 0.5]), doubles([9, 6, 0]), doubles([10, 5, 8]), 1.0)
    torch.testing.assert_close(after, doubles([1, 2, 0]))
    # a slot of 2 s: 2 + 9 - 20 < 0; 1 + 6 - 10 < 0
    assert drain_backlog(doubles([2, 1]), doubles([9, 6]), doubles([10, 5]), 2.0).tolist() == [0, 0]


def test_outcome_layouts() -> None:
    outcome, _ = place(small_slot(), torch.tensor([[[0, 1], [0, 0]]]))
    torch.testing.assert_close(outcome.dense(outcome.delays.total_s), doubles([[[0.61, 1.47], [1.15, 0]]]))
    torch.testing.assert_close(outcome.sum_per_copy(outcome.delays.total_s), doubles([0.61 + 1.15 + 1.47]))


@pytest.mark.parametrize("server", [-1, 2])
def test_a_server_that_does_not_exist_is_refused(server: int) -> None:
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        place(small_slot(), torch.tensor([[[0, server], [0, 0]]]))
    with pytest.raises(ValueError, match="shape"):
        place(small_slot(), torch.tensor([[0, 1]]))


@PROPERTY
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1e4)), max_size=60))
def test_work_ahead_is_a_plain_loop(entries: list[tuple[int, float]]) -> None:
    total = [0.0] * 5
    ahead = []
    for queue, work in entries:
        ahead.append(total[queue])
        total[queue] += work
    queue_of = torch.tensor([queue for queue, _ in entries], dtype=torch.long)
    got, placed = work_ahead(queue_of, doubles([work for _, work in entries]), 5)
    torch.testing.assert_close(got, doubles(ahead), rtol=1e-9, atol=1e-8)
    torch.testing.assert_close(placed, doubles(total), rtol=1e-9, atol=1e-8)


def test_work_ahead_with_more_queues_than_16_bits_hold() -> None:
    queue = torch.tensor([70_000, 5, 70_000, 5])
    ahead, placed = work_ahead(queue, doubles([1, 2, 4, 8]), 70_001)
    assert ahead.tolist() == [0, 0, 1, 2]
    assert placed[[5, 70_000]].tolist() == [10, 5]


@st.composite
def slots(draw: st.DrawFn) -> tuple[RouterView, torch.Tensor]:
    """Any slot of a few copies, and any decisions."""
    copies, servers, width = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=rng, dtype=torch.float64) * (high - low) + low

    shape = (copies, servers, width)
    present = torch.rand(shape, generator=rng) < draw(st.floats(0, 1))
    tasks = Tasks(present, uniform(0, 9, *shape), uniform(0, 9, *shape), uniform(0, 2, *shape))
    observation = RouterView(
        0,
        uniform(0, 20, copies, servers),
        uniform(1, 50, copies, servers),
        uniform(100, 500, copies, servers),
        tasks,
        by_server=draw(st.booleans()),
    )
    return observation, torch.randint(0, servers, shape, generator=rng)


@PROPERTY
@given(slots())
def test_place_is_a_plain_loop(slot: tuple[RouterView, torch.Tensor]) -> None:
    observation, server = slot
    tasks = observation.tasks
    outcome, placed = place(observation, server)
    parts = {part: outcome.dense(getattr(outcome.delays, part)) for part in PARTS}
    copies, servers, width = tasks.present.shape
    for e in range(copies):
        queue = observation.backlog_gcycles[e].tolist()
        order = [(n, b) for n in range(width) for b in range(servers)]
        for n, b in sorted(order, key=lambda place: place[1]) if observation.by_server else order:
            if not tasks.present[e, b, n]:
                continue
            a = int(server[e, b, n])
            f, v = float(observation.capacity_gcycles_s[e, a]), float(observation.rate_mbit_s[e, a])
            d, w, r = (float(x[e, b, n]) for x in (tasks.size_mbit, tasks.workload_gcycles, tasks.result_mbit))
            expected = {"transfer_s": 0 if a == b else d / v, "wait_s": queue[a] / f}
            expected |= {"compute_s": w / f, "return_s": r / v}
            for part in PARTS:
                assert float(parts[part][e, b, n]) == pytest.approx(expected[part], abs=1e-9)
            queue[a] += w
        torch.testing.assert_close(observation.backlog_gcycles[e] + placed[e], doubles(queue))


@PROPERTY
@given(slots())
def test_invariants_of_a_slot(slot: tuple[RouterView, torch.Tensor]) -> None:
    observation, server = slot
    outcome, placed = place(observation, server)
    work = observation.tasks.workload_gcycles * observation.tasks.present
    torch.testing.assert_close(placed.sum(1), work.sum((1, 2)))  # no work is lost or made
    assert (outcome.delays.total_s >= outcome.delays.compute_s).all()
    assert all((getattr(outcome.delays, part) >= 0).all() for part in PARTS)
    after = drain_backlog(observation.backlog_gcycles, placed, observation.capacity_gcycles_s, 1.0)
    assert (after >= 0).all()
    done = observation.backlog_gcycles + placed - after
    assert (done <= observation.capacity_gcycles_s * (1 + 1e-12)).all()  # no server works faster than it can


@PROPERTY
@given(slots(), st.randoms(use_true_random=False))
def test_copies_do_not_touch_each_other(slot: tuple[RouterView, torch.Tensor], random: Any) -> None:
    observation, server = slot
    order = list(range(server.shape[0]))
    random.shuffle(order)
    tasks = observation.tasks
    shuffled = RouterView(
        0,
        observation.backlog_gcycles[order],
        observation.capacity_gcycles_s[order],
        observation.rate_mbit_s[order],
        Tasks(*(getattr(tasks, f)[order] for f in ("present", "size_mbit", "workload_gcycles", "result_mbit"))),
        by_server=observation.by_server,
    )
    one, placed_one = place(observation, server)
    two, placed_two = place(shuffled, server[order])
    torch.testing.assert_close(two.dense(two.delays.total_s), one.dense(one.delays.total_s)[order])
    torch.testing.assert_close(placed_two, placed_one[order])


def test_nobody_has_a_task() -> None:
    slot = small_slot()
    tasks = Tasks(torch.zeros_like(slot.tasks.present), *list(vars(slot.tasks).values())[1:])
    empty = RouterView(0, slot.backlog_gcycles, slot.capacity_gcycles_s, slot.rate_mbit_s, tasks)
    outcome, placed = place(empty, torch.zeros(1, 2, 2, dtype=torch.long))
    assert outcome.delays.total_s.numel() == 0
    assert placed.tolist() == [[0, 0]]


def play(simulator: OffloadingWorld, policy_name: str, slots_played: int | None = None) -> torch.Tensor:
    """Play on, and return the delays of all tasks, one after the other."""
    policy, delays = make_rule(policy_name, seed=1), list[torch.Tensor]()
    memory = policy.begin("router", simulator.observe())
    while not simulator.done and (slots_played is None or len(delays) < slots_played):
        server, memory = policy.act("router", simulator.observe(), memory)
        delays.append(simulator.decide(server).delays.total_s)
    return torch.cat(delays)


def test_copies_are_the_episodes_of_a_single_simulator() -> None:
    scenario = load_scenario("demo")
    many, one = OffloadingWorld(scenario, copies=8), OffloadingWorld(scenario)
    tasks = many.reset(seed=11).tasks
    for e in range(8):
        alone = (one.reset(seed=11) if e == 0 else one.reset()).tasks
        assert torch.equal(alone.present[0], tasks.present[e])
        assert torch.equal(alone.workload_gcycles[0], tasks.workload_gcycles[e])
    assert torch.equal(many.reset().tasks.size_mbit[0], one.reset().tasks.size_mbit[0])  # both go on with episode 8


def test_the_same_seed_gives_the_same_episode() -> None:
    simulator = OffloadingWorld(load_scenario("demo"), copies=2)
    simulator.reset(seed=4)
    first = play(simulator, "uniform")
    simulator.reset(seed=4)
    assert torch.equal(play(simulator, "uniform"), first)
    simulator.reset(seed=5)
    assert play(simulator, "uniform").sum() != first.sum()


def test_arrivals_do_not_depend_on_the_policy() -> None:
    arrivals = []
    for policy_name in ("local", "uniform"):
        simulator = OffloadingWorld(load_scenario("demo"))
        simulator.reset(seed=6)
        play(simulator, policy_name, slots_played=20)
        arrivals.append(simulator.observe().tasks.size_mbit)
    assert torch.equal(*arrivals)


def test_state_survives_a_round_trip_mid_episode() -> None:
    simulator = OffloadingWorld(load_scenario("demo"), copies=3)
    simulator.reset(seed=2)
    simulator.reset()
    play(simulator, "uniform", slots_played=15)
    state = pickle.loads(pickle.dumps(simulator.state_dict()))
    rest = play(simulator, "local")
    restored = OffloadingWorld(load_scenario("demo"), copies=3)
    restored.load_state_dict(state)
    assert restored.state.slot == 15
    assert torch.equal(play(restored, "local"), rest)
    with pytest.raises(ValueError, match="copies"):
        OffloadingWorld(load_scenario("demo"), copies=2).load_state_dict(state)


def test_single_precision_is_precise_enough() -> None:
    totals = []
    for dtype in (torch.float32, torch.float64):
        simulator = OffloadingWorld(load_scenario("ladts-paper"), dtype=dtype)
        simulator.reset(seed=3)
        totals.append(play(simulator, "local").double())
    torch.testing.assert_close(totals[0], totals[1], rtol=1e-4, atol=1e-5)
    assert totals[0].mean().item() == pytest.approx(totals[1].mean().item(), rel=1e-6)


def test_work_is_conserved_over_an_episode() -> None:
    simulator = OffloadingWorld(load_scenario("ladts-paper"), dtype=torch.float64)
    simulator.reset(seed=9)
    rule, done, arrived = make_rule("uniform"), 0.0, 0.0
    while not simulator.done:
        observation = simulator.observe()
        before = observation.backlog_gcycles.sum()
        work = (observation.tasks.workload_gcycles * observation.tasks.present).sum()
        simulator.decide(rule.act("router", observation, {})[0])
        arrived += float(work)
        done += float(before + work - simulator.state.backlog_gcycles.sum())
    assert arrived == pytest.approx(done + float(simulator.state.backlog_gcycles.sum()), rel=1e-12)
    assert done <= 656 * 59


def test_an_episode_ends_with_one_more_slot_to_look_at() -> None:
    simulator = OffloadingWorld(load_scenario("demo", {"slots": 2}))
    play(simulator, "local")
    assert simulator.done
    assert simulator.observe().slot == 2
    with pytest.raises(ValueError, match="over"):
        simulator.decide(torch.zeros(1, 5, 15, dtype=torch.long))
