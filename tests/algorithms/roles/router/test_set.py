# SPDX-License-Identifier: Apache-2.0
"""The set networks: any servers in any order, credit for what a task does to others, and reports brought up to date."""

import pytest
import torch
from ray.rllib.core.columns import Columns

from edgegen.algorithms.core.codec import load_policy, save_policy
from edgegen.algorithms.methods.configs import LADTSConfig
from edgegen.algorithms.methods.ladts import METHOD, LADTSPolicy
from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.algorithms.rllib.runner import JointEnvRunner
from edgegen.algorithms.roles.router.credit import delay_to_others
from edgegen.algorithms.roles.router.routers import router_for
from edgegen.algorithms.roles.router.set_memory import (
    PLACED,
    SEEN,
    before,
    begin_slot,
    empty_memory,
    recent_arrivals,
    remember,
)
from edgegen.algorithms.roles.router.set_networks import SetCritic
from edgegen.algorithms.roles.router.set_view import SlotView, catch_up, expected_delay_units, split, unit_slots
from edgegen.algorithms.rules.routing import expected_delay
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.physics import drain_backlog, place
from edgegen.envs.offloading.view import ROUTER, HeardView, RouterView, Tasks
from edgegen.envs.offloading.world import OffloadingWorld

WORLD = load_scenario("stable", {"slots": 4, "tasks_per_slot": {"low": 1, "high": 4}})
KINDS = [{}, {"actor": "diffusion", "memory": "task", "epsilon_output": "linear"}]


def make(scenario=WORLD, seed=0, random_output=True, **overrides):
    torch.manual_seed(5)
    actor = router_for(scenario, METHOD.make_settings("set", overrides)).actor()
    if random_output:  # a fresh network adds nothing yet, and nothing is easy to keep
        for parameter in actor.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        torch.nn.init.zeros_(actor.get_parameter("log_slope"))
    return LADTSPolicy(actor, seed=seed)


def fresh_view(policy, observation):
    shape = observation.tasks.present.shape
    waiting = observation.backlog_gcycles[:, None].expand(shape[0], shape[1], shape[1])
    arrivals = policy.router.arrivals(observation, empty_memory(observation))
    return SlotView(policy.spec, observation, arrivals, waiting, torch.zeros(shape[:2]))


def busy(scenario=WORLD, copies=3, seed=1):
    simulator = OffloadingWorld(scenario, copies)
    observation = simulator.reset(seed)
    for _ in range(2):
        simulator.decide(torch.zeros_like(observation.tasks.present, dtype=torch.long))
    return simulator.observe()


def renumbered(observation, order):
    tasks = observation.tasks
    parts = (tasks.present, tasks.size_mbit, tasks.workload_gcycles, tasks.result_mbit)
    rate = observation.rate_mbit_s[:, order]
    if rate.dim() == 3:
        rate = rate[:, :, order]
    return RouterView(
        observation.slot,
        observation.backlog_gcycles[:, order],
        observation.capacity_gcycles_s[:, order],
        rate,
        Tasks(*(part[:, order] for part in parts)),
    )


@pytest.mark.parametrize("name", ["stable", "links"])
def test_the_numbers_of_the_servers_mean_nothing(name):
    scenario = load_scenario(name, {"slots": 4, "tasks_per_slot": {"low": 1, "high": 4}})
    policy = make(scenario)
    observation = busy(scenario)
    order = torch.tensor([3, 0, 9, 1, 2, 8, 7, 4, 6, 5])
    other = renumbered(observation, order)
    results = []
    for seen in (observation, other):
        task = seen.tasks.at_index(0)
        results.append(
            policy.actor(policy.spec.grouped(fresh_view(policy, seen).state(task)), torch.empty(1, 30, 0), None)
        )
    one, two = (result.view(3, 10, 10) for result in results)
    torch.testing.assert_close(two, one[:, order][:, :, order], rtol=1e-4, atol=1e-6)
    assert float(one.std(-1).mean()) > 1e-3


@pytest.mark.parametrize("overrides", KINDS)
@pytest.mark.parametrize("servers", [1, 3, 17])
def test_one_policy_for_any_number_of_servers(overrides, servers):
    here = make(**overrides)
    scenario = load_scenario("stable", {"server_sets.servers": servers, "slots": 3, "tasks_per_slot.high": 3})
    there = here.router.for_servers(scenario).actor()
    there.load_state_dict(here.actor.state_dict())
    policy = LADTSPolicy(there, seed=2)
    simulator = OffloadingWorld(scenario, 2)
    observation = simulator.reset(0)
    memory = policy.begin(ROUTER, observation)
    while not simulator.done:
        action, memory = policy.act(ROUTER, simulator.observe(), memory)
        assert action.shape == (2, servers, 3)
        simulator.decide(action)


@pytest.mark.parametrize("overrides", KINDS)
def test_a_saved_policy_decides_for_other_servers(overrides, tmp_path):
    trained = make(**overrides)
    save_policy(trained, tmp_path / "policy", WORLD, {})
    more = load_scenario("stable", {"server_sets.servers": 17, "slots": 3, "tasks_per_slot.high": 6})
    loaded = load_policy(tmp_path / "policy", more, seed=2)
    assert isinstance(loaded, LADTSPolicy)
    assert loaded.spec.servers == 17
    observation = busy(more, copies=2)
    actions, _ = loaded.act(ROUTER, observation, loaded.begin(ROUTER, observation))
    assert actions.shape == (2, 17, 6)
    assert len(actions[observation.tasks.present].unique()) > 10


def test_networks_of_one_output_per_server_stay_with_their_servers():
    router = router_for(load_scenario("demo"), METHOD.make_settings("improved"))
    assert router.for_servers(WORLD) is router


def test_the_expected_delay_of_a_first_task_is_the_real_one_if_nobody_else_comes():
    policy = make()
    observation = busy()
    task = observation.tasks.at_index(0)
    state = fresh_view(policy, observation).state(task)[:, :, 0]
    _, members = split(state, policy.spec)
    real = expected_delay(observation, task, observation.backlog_gcycles[:, None])
    found = expected_delay_units(members) * unit_slots(state, policy.spec)[..., None]
    torch.testing.assert_close(found, real, rtol=1e-4, atol=1e-5)


def test_an_untrained_policy_prefers_what_is_fast():
    policy = make(random_output=False)
    observation = busy()
    decision = policy.place(observation, policy.begin(ROUTER, observation))
    present = observation.tasks.present[:, :, 0]
    real = expected_delay(observation, observation.tasks.at_index(0), observation.backlog_gcycles[:, None])
    unit_s = unit_slots(decision.state[:, :, 0], policy.spec)[..., None]
    wanted = (observation.capacity_gcycles_s[:, None].log() - real / unit_s / 0.2).softmax(-1)
    torch.testing.assert_close(decision.probability[:, :, 0][present], wanted[present], rtol=1e-3, atol=1e-4)
    critic = SetCritic(policy.spec, 2)
    state = policy.spec.grouped(decision.state[:, :, :1])
    values = critic(torch.cat([state, state]))[1].view(3, 10, 10)
    torch.testing.assert_close(values, -real / unit_s, rtol=1e-4, atol=1e-3)


def test_the_gain_multiplies_what_critics_add_to_the_estimate():
    policy = make()
    state = policy.spec.grouped(fresh_view(policy, busy()).state(busy().tasks.at_index(0)))
    torch.manual_seed(2)
    plain = SetCritic(policy.spec, 1)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    gained = SetCritic(policy.spec, 1, reward_scale=2.0, gain=10.0)
    gained.load_state_dict(plain.state_dict())
    estimate = -expected_delay_units(split(state, policy.spec)[1])
    added = plain(state) - estimate
    assert float(added.abs().max()) > 0.1
    torch.testing.assert_close(gained(state), 2 * (estimate + 10 * added), rtol=1e-4, atol=1e-3)


def test_own_placements_reach_the_next_state():
    policy = make()
    observation = busy()
    view = fresh_view(policy, observation)
    task = observation.tasks.at_index(0)
    before_it = view.state(task)
    sent = torch.full((3, 10), 4)
    view.place(task, sent, torch.nn.functional.one_hot(sent, 10).float())
    _, members = split(view.state(task)[:, :, 0], policy.spec)
    _, members_before = split(before_it[:, :, 0], policy.spec)
    grown = expected_delay_units(members) - expected_delay_units(members_before)
    # All are taken to do the same: everything that came before is now expected on server 4.
    came = view.arrivals.placed(view.rank)[0] * task.present
    expected = came / observation.capacity_gcycles_s[:, 4:5] / view.arrivals.unit_slots[..., 0]
    torch.testing.assert_close(grown[..., 4], expected, rtol=1e-3, atol=1e-3)
    assert float(grown[..., :4].abs().max()) < 1e-4


def test_cost_to_others_by_hand():
    # Servers of 10 and 5 Gcycle/s; tasks of 4 and 6 Gcycle at server 0 and 5 at server 1, all sent to server 0.
    tasks = Tasks(
        torch.tensor([[[True, True], [True, False]]]),
        torch.ones(1, 2, 2),
        torch.tensor([[[4.0, 6], [5, 99]]]),
        torch.ones(1, 2, 2),
    )
    slot = RouterView(0, torch.tensor([[2.0, 1]]), torch.tensor([[10.0, 5]]), torch.tensor([[100.0, 50]]), tasks)
    outcome, placed = place(slot, torch.tensor([[[0, 0], [0, 0]]]))
    left = drain_backlog(slot.backlog_gcycles, placed, slot.capacity_gcycles_s, 1.0)
    assert left.tolist() == [[7, 0]]
    # 0.4 s for two tasks behind, 0.5 s for one, 0.6 s for none; 0.7 s are left, so three tasks of the next slot
    # wait 0.4, 0.5 and 0.6 s longer.
    expected = torch.tensor([0.8 + 1.2, 0.5 + 1.5, 0 + 1.8])
    torch.testing.assert_close(delay_to_others(outcome, left, slot.capacity_gcycles_s), expected)


def test_cost_to_others_is_what_the_slot_would_have_been_without_the_task():
    observation = busy(copies=2)
    server = torch.randint(10, observation.tasks.present.shape, generator=torch.Generator().manual_seed(4))
    outcome, _ = place(observation, server)
    nothing_left = torch.zeros_like(observation.backlog_gcycles)
    others = delay_to_others(outcome, nothing_left, observation.capacity_gcycles_s)
    total = outcome.delays.total_s.double().sum()
    for row in range(0, len(others), 7):
        present = observation.tasks.present.clone()
        present[outcome.copy[row], outcome.edge[row], outcome.index[row]] = False
        tasks = observation.tasks
        fewer = Tasks(present, tasks.size_mbit, tasks.workload_gcycles, tasks.result_mbit)
        backlog_gcycles, capacity_gcycles_s = observation.backlog_gcycles, observation.capacity_gcycles_s
        seen = RouterView(0, backlog_gcycles, capacity_gcycles_s, observation.rate_mbit_s, fewer)
        without = place(seen, server)[0].delays.total_s.double().sum()
        own = outcome.delays.total_s[row].double()
        assert float(total - without - own) == pytest.approx(float(others[row]), abs=1e-3)


def test_old_reports_are_brought_up_to_date_by_hand():
    tasks = Tasks(*(torch.zeros(1, 2, 1) for _ in range(4)))
    capacity = torch.tensor([[4.0, 2.0]])
    now = RouterView(9, torch.tensor([[5.0, 5]]), capacity, torch.ones(1, 2), tasks)
    placed = torch.tensor([[[[1.0, 3], [0, 1]], [[9.0, 0], [0, 0]]]])  # newest first, by observer
    heard = HeardView(**vars(now), actual=now, age=torch.tensor([[2.0, 1]]))
    # observer 0: server 0 was 5, +0-4 = 1, +1-4 -> 0; server 1 was 5, +3-2 = 6. observer 1: 5 -> 1 -> 6; 5 -> 3.
    assert catch_up(heard, placed, 1.0).tolist() == [[[0, 6], [6, 3]]]
    assert catch_up(now, placed, 1.0).tolist() == [[[5, 5], [5, 5]]]


def tasks_of(*gcycles, servers=10):
    work = torch.tensor(gcycles).expand(1, servers, -1)
    return Tasks(torch.ones_like(work, dtype=torch.bool), torch.ones_like(work), work, torch.ones_like(work))


def test_memory_of_placements_and_arrivals():
    observation = busy(copies=1)
    memory = empty_memory(observation)
    work = torch.zeros(1, 10, 10)
    work[..., 2] = 3.0
    for slot, arrived in ((4, 10.0), (5, 20.0)):
        begin_slot(memory, slot)
        remember(memory, slot, work * slot, tasks_of(arrived))
    begin_slot(memory, 6)
    known = before(memory, 6, torch.full((1, 10), 50.0))
    assert known[0, 0, :, 2].tolist() == [50, 50, 0, 0, 0, 0, 0, 0]  # slots 5 and 4, as shares of all that came
    # weights 0.2 and 0.2 * 0.8: (20 + 0.8 * 10) / 1.8
    assert recent_arrivals(memory)[0, 0] == pytest.approx(28 / 1.8)
    begin_slot(memory, 0)  # a new episode
    assert float(memory[PLACED].abs().sum()) == float(memory[SEEN].abs().sum()) == 0
    assert recent_arrivals(memory).tolist() == [[0] * 10]


def test_arrivals_are_remembered_as_they_came_however_often_a_service_asks():
    observation = busy(copies=1)
    slots = {4: [10.0], 5: [4.0, 6.0, 10.0], 8: [1.0, 1.0]}  # 6 and 7 without a request
    memory = empty_memory(observation)
    for slot, requests in slots.items():
        for gcycles in requests:
            begin_slot(memory, slot)
            known = recent_arrivals(memory)
            remember(memory, slot, torch.zeros(1, 10, 10), tasks_of(gcycles))
        if slot == 5:
            assert known[0, 0] == pytest.approx(10)  # what came in this slot does not count yet
    by_slot = empty_memory(observation)
    for slot in range(4, 9):
        begin_slot(by_slot, slot)
        remember(by_slot, slot, torch.zeros(1, 10, 10), tasks_of(*slots.get(slot, [])))
    for each in (memory, by_slot):
        begin_slot(each, 9)
    torch.testing.assert_close(recent_arrivals(memory), recent_arrivals(by_slot))
    torch.testing.assert_close(memory[SEEN], by_slot[SEEN])


def test_who_takes_over_meets_new_arrivals_in_every_world():
    config = LADTSConfig().scenario(WORLD).preset("set", train_servers=(5, 10), copies=2, hidden=8).debugging(seed=3)
    donor, comer = (JointEnvRunner(config=config, worker_index=index) for index in (1, 2))
    fragments = donor.sample(num_episodes=4)  # two of each copy, the second with ten servers
    assert [part.env_steps() for part in fragments] == [2 * WORLD.slots] * 2
    assert len({part.roles[ROUTER].columns[Columns.OBS].shape[-1] for part in fragments}) == 2
    comer.take_over(donor.get_world_state(), life=1)
    assert comer.get_world_state()["turn"] == donor.get_world_state()["turn"]
    for own, other in zip(comer.simulators, donor.simulators, strict=True):
        assert not torch.equal(own.observe().tasks.workload_gcycles, other.observe().tasks.workload_gcycles)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"gamma": 0.9}, "gamma is 0.9, but network 'set' needs 0"),
        ({"sharing": "none"}, "sharing is 'none', but network 'set' needs 'full'"),
        ({"actor": "q"}, "actor is 'q', but network 'set'"),
        ({"actor": "diffusion", "memory": "slot"}, "memory is 'slot', but network 'set'"),
    ],
)
def test_settings_that_do_not_fit_a_set(overrides, complaint):
    with pytest.raises(InputError, match=complaint):
        METHOD.make_settings("set", overrides)


@pytest.mark.parametrize("overrides", KINDS)
def test_it_trains_and_goes_on_bit_for_bit(overrides, tmp_path):
    settings = {"copies": 2, "hidden": 8, "replay_warmup": 20, "batch_size": 16, "updates_per_slot": 0.5, **overrides}

    def build():
        return LADTSConfig().scenario(WORLD).preset("set", **settings).debugging(seed=3, log_level="ERROR").build_algo()

    with ray_session(None):
        whole = build()
        whole.train()
        whole.save_to_path(str(tmp_path / "at-one"))
        whole.train()
        assert whole.updates[ROUTER] > 4
        again = build()
        again.restore_from_path(str(tmp_path / "at-one"))
        again.train()
        one, two = (algorithm.learned_weights(ROUTER, "actor") for algorithm in (whole, again))
        assert all(torch.equal(one[name], two[name]) for name in one)
        fresh = whole.learning.router.actor().state_dict()
        assert any(not torch.equal(one[name], fresh[name]) for name in one if "own.2" in name)
        policy = whole.policy(0)
        assert policy.name == ("set-lad-ts" if overrides else "set-ts")
        whole.stop()
        again.stop()
