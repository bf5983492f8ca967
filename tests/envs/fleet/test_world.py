# SPDX-License-Identifier: Apache-2.0
"""The fleet world: by hand, against a plain event loop, and beside the offloading world."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.envs.fleet import physics
from edgegen.envs.fleet.meter import UtilityMeter
from edgegen.envs.fleet.view import AllocatorView, CacherView, RouterView
from edgegen.envs.fleet.world import FleetWorld
from edgegen.envs.offloading.physics import drain_backlog, place
from edgegen.envs.offloading.view import RouterView as OffloadingView
from edgegen.envs.offloading.view import Tasks
from tests.envs.fleet.fleets import MODELS, by_events, play_randomly, requests_of, result_of, seen, small


def decide(world: FleetWorld, site: int, share: float = 1.0) -> Any:
    """Place the request that is due in a world of one copy."""
    world.decide(torch.tensor([[site]]))
    return result_of(world.decide(torch.full((1, 1, 1, 1), share)))[0]


def keep(world: FleetWorld, *models: int) -> Any:
    """Let every site keep some models."""
    bits = torch.zeros(1, world.scenario.sites, len(world.scenario.kinds_of_models), dtype=torch.bool)
    bits[..., list(models)] = True
    return world.decide(bits)


def test_requests_by_hand() -> None:
    rows = [
        (1.0, 0, 0, 1.0, 8.0, 2.0),
        (1.25, 0, 1, 2.0, 3.0, 1.0),
        (1.5, 1, 0, 1.0, 3.0, 0.5),
        (6.0, 2, 0, 1.0, 8.0, 1.0),
    ]
    world = FleetWorld(small(), requests=requests_of(rows))
    keep(world, 0)
    first = decide(world, 0)  # 10 steps of 0.1 s at speed 2
    assert first[physics.DELAY] == pytest.approx(0.5)
    assert first[physics.QUALITY] == pytest.approx(0.9)
    assert first[physics.UTILITY] == pytest.approx(2 * 0.9 - 0.005 * 0.5)
    view = world.observe()
    assert view.backlog_s[0].tolist() == pytest.approx([0.25, 0, 0, 0])  # own placement: 0.5 s, not yet reported
    assert view.load_s[0].tolist() == [1.5, 1.5, 1.5, 0]
    second = decide(world, 0, 0.5)  # waits 0.25 s, loads 1.5 s, 2 pictures of 7 steps of 0.2 s at speed 2
    assert second[physics.STEPS] == 7
    assert second[physics.DELAY] == pytest.approx(0.25 + 1.5 + 1.4)
    assert second[physics.LATE] == 1
    assert second[physics.UTILITY] == pytest.approx(-0.2 - 0.005 * 3.15)
    assert world.observe().backlog_s[0, 0] == 0  # another home, and the report of second 1
    third = decide(world, 3)  # the cloud: 2 s away, 1 s of work at speed 0.7, price 0.3
    assert third[physics.DELAY] == pytest.approx(2 + 1 / 0.7)
    assert third[physics.LATE] == 1
    assert world.turn == "cacher"
    assert world.round == 1
    assert seen(world, CacherView).demand[0].tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0]]
    keep(world, 2)  # 2 s to load everywhere, from second 5 on
    view = world.observe()
    assert view.backlog_s[0].tolist() == pytest.approx([1, 1, 1, 0])
    assert world.books.resident[0].tolist() == [[0, 1, 1], [0, 0, 1], [1, 0, 1]]  # used longest ago goes
    fourth = decide(world, 2)
    assert fourth[physics.DELAY] == pytest.approx(1 + 2)


EXTRAS: dict[str, dict[str, Any]] = {
    "refusal": {"refuse_price": 0.1},
    "failures": {"outages": {"factor": 0, "mean_up_s": 6, "mean_down_s": 3}},
    "losses": {"outages": {"factor": 0, "mean_up_s": 4, "mean_down_s": 1, "keeps_models": False}},
    "slow": {"outages": {"factor": 0.3, "mean_up_s": 4, "mean_down_s": 3}},
    "host": {"loading": {"host_memory_gb": [3, 2, 2], "host_s": 0.4}},
    "loads": {"loading": {"places": {"low": 1, "high": 3}, "noise": {"low": 0.5, "high": 2}}},
    "speeds": {"model_speed": [[1, 2, 1], [1, 1, 0.5], [3, 1, 1]]},
    "links": {"hop_s": [[0, 0.1, 0.4], [0.2, 0, 0.3], [0.5, 0.1, 0]], "rate_mbit_s": [[500, 900, 700]] * 3},
    "asked": {"asked_steps": {"low": 2, "high": 20}, "extra_s": {"low": 0, "high": 1}},
    "together": {"pictures": {"low": 1, "high": 4}, "further_picture": 0.25},
    "noise": {"service_noise": {"low": 0.8, "high": 1.2}},
    "radio": {"radio": {"uplink_mhz": 5}},
}
"""What a scenario may have beside; any of it may come together."""
several = st.lists(st.sampled_from(sorted(EXTRAS)), unique=True, max_size=4)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    load=st.floats(0.2, 3),
    factor=st.floats(0.1, 3),
    result=st.floats(0, 500),
    extras=several,
)
def test_it_equals_a_plain_event_loop(seed: int, load: float, factor: float, result: float, extras: list[str]) -> None:
    changes = {"load": load, "load_factor": factor, "result_mbit": result, "upload_mbit": 50}
    for extra in extras:
        changes |= EXTRAS[extra]
    scenario = small(**changes)
    world = FleetWorld(scenario)
    world.reset(seed=seed)
    requests = world.future
    wanted, served = play_randomly(world, seed)
    assert len(served) == requests.number[0] == world.books.cursor[0]  # every request ends once
    delays = by_events(scenario, requests, wanted, [(site, share) for site, share, _ in served])
    assert [row[physics.DELAY] for _, _, row in served] == pytest.approx(delays, abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), load=st.floats(0.2, 3), extras=several)
def test_what_always_holds(seed: int, load: float, extras: list[str]) -> None:
    changes: dict[str, Any] = {"load": load, "upload_mbit": 1}
    for extra in extras:
        changes |= EXTRAS[extra]
    scenario = small(**changes)
    world = FleetWorld(scenario)
    world.reset(seed=seed)
    rng, placed_s, idle_s = np.random.default_rng(seed), np.zeros(3), np.zeros(3)
    size_gb = np.array([model.size_gb for model in scenario.kinds_of_models])
    while world.turn is not None:
        role = world.turn
        now_s = world._of("arrival_s")[0] if role != "cacher" else world.round * scenario.frame_s
        before = world.books.free_s[0].copy()
        if role == "cacher":
            world.decide(torch.from_numpy(rng.random((1, 3, 3)) < 0.5))
            moved = world.books.free_s[0] > before
            placed_s += np.where(moved, world.books.free_s[0] - np.maximum(before, now_s), 0)
        elif role == "router":
            site = int(rng.integers(scenario.choices))
            world.decide(torch.tensor([[site]]))
        else:
            row = result_of(world.decide(torch.rand(1, 1, 1, 1)))[0].numpy()
            assert (row[: physics.UTILITY] >= 0).all()  # no time is negative
            parts = row[[physics.TRANSFER, physics.WAIT, physics.LOADED, physics.GENERATION, physics.RETURN]]
            assert row[physics.DELAY] == pytest.approx(parts.sum())
            if site < 3:
                begun_s = now_s + row[physics.WAIT]  # later than the queue's end if the site has failed
                placed_s[site] += begun_s - max(before[site], now_s) + row[physics.LOADED] + row[physics.GENERATION]
            if "outages" not in changes and site < 3:
                assert row[physics.WAIT] == pytest.approx(max(before[site] - now_s, 0))
        moved = world.books.free_s[0] > before
        idle_s += np.where(moved, np.maximum(now_s - before, 0), 0)
        assert (world.books.resident[0] @ size_gb <= np.array(scenario.site_memory_gb)).all()
        assert ((world.books.host[0] > 0) @ size_gb <= np.array(scenario.host_memory_gb)).all()
        assert not ((world.books.host[0] > 0) & (world.books.resident[0] > 0)).any()
    # Work in is work done and backlog: a site is idle, has failed, or works off what it was given.
    assert (world.books.free_s[0] - idle_s) == pytest.approx(placed_s)


def test_a_refused_request_costs_its_price_and_nothing_else() -> None:
    rows = [(1.0, 0, 0, 1.0, 8.0, 2.0), (1.5, 1, 0, 1.0, 8.0, 1.0), (2.0, 1, 1, 1.0, 8.0, 1.0)]
    world = FleetWorld(small(refuse_price=0.25), requests=requests_of(rows))
    meter = UtilityMeter(world)
    keep(world, 0)
    before = world.books.free_s.copy()
    assert seen(world, RouterView).refusal.tolist() == [0.5]
    world.decide(torch.tensor([[4]]))
    assert not seen(world, AllocatorView).due.any()  # the allocators have nothing to do
    outcome = world.decide(torch.ones(1, 1, 1, 1))
    meter.add("allocator", None, outcome)
    assert result_of(outcome)[0, physics.UTILITY] == -0.5
    assert result_of(outcome)[0, 1 : physics.UTILITY].tolist() == [0] * 9
    assert outcome.rewards["router"].tolist() == [[-0.5]]
    assert (world.books.free_s == before).all()
    assert world.books.demand[0, 0, 0] == 1  # it was asked for all the same
    for site in (1, 3):
        world.decide(torch.tensor([[site]]))
        meter.add("allocator", None, world.decide(torch.ones(1, 1, 1, 1)))
    values = {name: value.item() for name, value in meter.values().items()}
    assert values["refused_share"] == pytest.approx(1 / 3)
    assert values["cloud_share"] == pytest.approx(1 / 3)
    assert values["late_share"] == 0
    in_cloud_s = 2 + 2 / 0.7
    assert values["delay_s"] == pytest.approx((1 + in_cloud_s) / 2)  # of those that were served
    assert values["quality"] == pytest.approx((0.9 + 1) / 2)
    assert values["fairness"] == pytest.approx(0.5)  # one home was served, the other was not
    worth = (0.9 - 0.005, 1 - 0.005 * in_cloud_s - 0.3)
    idle = (1.8 - 0.005 * 0.5, 0.9 - 0.005, 1 - 0.005 * 2)  # at home, 0.5, 1 and 2 s of work
    assert values["lost_utility"] == pytest.approx((idle[0] + 0.5 + idle[1] - worth[0] + idle[2] - worth[1]) / 3)


def test_one_model_everywhere_is_the_offloading_world_bit_for_bit() -> None:
    """All values are sums of powers of two, so that both orders of adding are exact."""
    rng, slots, servers, width = np.random.default_rng(3), 6, 3, 4
    work = rng.integers(1, 24, (slots, servers, width)) / 8.0
    action = rng.integers(servers, size=(slots, servers, width))
    capacity = torch.tensor([[2.0, 1.0, 4.0]], dtype=torch.float64)
    ones = torch.ones(1, servers, width, dtype=torch.float64)
    backlog, expected = torch.zeros(1, servers, dtype=torch.float64), []
    for slot in range(slots):
        tasks = Tasks(ones.bool(), 2 * ones, torch.from_numpy(work[slot])[None], ones)
        rate = torch.full((1, servers), 8.0, dtype=torch.float64)
        view = OffloadingView(slot, backlog, capacity, rate, tasks)
        outcome, placed = place(view, torch.from_numpy(action[slot])[None])
        expected += outcome.delays.total_s.tolist()
        backlog = drain_backlog(backlog, placed, capacity, 1.0)
    rows, sites = [], []
    for slot in range(slots):
        for index in range(width):  # all first tasks, then all second ones
            for server in range(servers):
                rows.append((float(slot), server, 0, work[slot, server, index], 1e6, 1.0))
                sites.append(int(action[slot, server, index]))
    model = {**MODELS[0], "step_s": 1, "least_steps": 1, "full_steps": 1}
    links = {"hop_s": 0, "rate_mbit_s": 8, "upload_mbit": 2, "result_mbit": 1}
    deadline = {"low": 1e6, "high": 1e6}
    scenario = small(models=[model], speed=[2, 1, 4], frames=1, frame_s=slots, deadline_s=deadline, **links)
    world = FleetWorld(scenario, requests=requests_of(rows, scenario))
    keep(world, 0)
    assert [float(decide(world, site)[physics.DELAY]) for site in sites] == expected


def test_copies_are_independent_and_a_restored_state_goes_on_bit_for_bit() -> None:
    traffic = {"popularity": {"exponents": [0.3, 1.4], "every_s": 4, "swap_s": 2}, "bursts": {}, "hot_spots": {}}
    loads = {"places": {"low": 1, "high": 3}, "noise": {"low": 0.5, "high": 2}, **EXTRAS["host"]["loading"]}
    happens = {**EXTRAS["losses"], **EXTRAS["asked"], **EXTRAS["noise"], **EXTRAS["radio"], "upload_mbit": 50}
    scenario = small(**traffic, loading=loads, **happens)
    together = FleetWorld(scenario, 3)
    together.reset(seed=5)
    alone = FleetWorld(scenario)
    alone.reset(seed=5, first_episode=1)
    count = alone.future.number[0]
    for mine, theirs in zip(alone.future[1:-1], together.future[1:-1], strict=True):
        assert (mine[0, :count] == theirs[1, :count]).all()
    meters = [UtilityMeter(together), UtilityMeter(alone)]
    saved: list[Any] = []
    for world, meter in zip((together, alone), meters, strict=True):
        turns = 0
        while (role := world.turn) is not None:
            view = world.observe()
            if isinstance(view, CacherView):
                action = view.demand > 0
            elif isinstance(view, RouterView):
                action = (view.backlog_s + view.full_s + view.network_s).argmin(1, keepdim=True)
            else:
                action = (view.slack_s / (view.full_s - view.least_s)).clamp(0, 1).reshape(-1, 1, 1, 1)
            turns += 1
            if world is alone and turns == 12:
                saved.append(world.state_dict())
                other = FleetWorld(scenario)
                other.load_state_dict(saved[0])
                assert other.turn == role
                assert all(
                    torch.equal(a, b) for a, b in zip(vars(other.observe()).values(), vars(view).values(), strict=True)
                )
            meter.add(role, view, world.decide(action))
    for name, value in meters[1].values().items():
        assert value[0] == meters[0].values()[name][1], name


def test_what_can_not_be_decided() -> None:
    world = FleetWorld(small())
    with pytest.raises(ValueError, match="cacher's action has shape"):
        world.decide(torch.zeros(1, 1))
    keep(world)
    with pytest.raises(ValueError, match=r"between 0 and 3, which is the cloud$"):
        world.decide(torch.tensor([[4]]))
    world = FleetWorld(small(refuse_price=0.0))
    shape = world.roles["router"].shape
    assert shape is not None
    assert shape(world.scenario) == (1, 5)
    keep(world)
    with pytest.raises(ValueError, match="or one more to refuse"):
        world.decide(torch.tensor([[5]]))
