# SPDX-License-Identifier: Apache-2.0
"""Happenings of a fleet by hand: outages, loads, links, curves, pictures, radio."""

import numpy as np
import pytest
import torch

from edgegen.envs.core.radio import link_rate
from edgegen.envs.fleet import physics
from edgegen.envs.fleet.draws import ASKED, EXTRA, NOISE, UPLINK, draw_requests
from edgegen.envs.fleet.sites import HEADER, draw_sites
from edgegen.envs.fleet.view import CacherView, RouterView
from edgegen.envs.fleet.world import FleetWorld
from tests.envs.fleet.fleets import MODELS, changes, requests_of, result_of, seen, small

ROW = (1.0, 0, 0, 1.0, 8.0, 2.0)


def keep(world: FleetWorld, *models: int) -> None:
    """Let every site keep some models."""
    bits = torch.zeros(1, world.scenario.sites, len(world.scenario.kinds_of_models), dtype=torch.bool)
    bits[..., list(models)] = True
    world.decide(bits)


def decide(world: FleetWorld, site: int, share: float = 1.0) -> np.ndarray:
    """Place the request that is due in a world of one copy."""
    world.decide(torch.tensor([[site]]))
    row: np.ndarray = result_of(world.decide(torch.full((1, 1, 1, 1), share)))[0].numpy()
    return row


def test_work_waits_for_a_failed_site() -> None:
    scenario = small(outages={"factor": 0, "mean_up_s": 50, "mean_down_s": 7}, frames=1, frame_s=15)
    happens = changes(scenario, 0.0, [1.2, 3.2, 4.0, 5.0])  # down from 1.2 to 3.2 and from 4 to 5
    rows = [ROW, (1.1, 1, 1, 2.0, 8.0, 1.0), (1.6, 1, 0, 1.0, 8.0, 1.0), (2.4, 1, 0, 1.0, 8.0, 1.0)]
    world = FleetWorld(scenario, requests=requests_of(rows, scenario)._replace(happens=happens))
    keep(world, 0, 1)
    first = decide(world, 0)  # 0.5 s of work at speed 2, of which 0.2 s are done by 1.2
    assert first[physics.GENERATION] == pytest.approx(2.5)
    assert first[physics.DELAY] == pytest.approx(2.5)
    assert seen(world, RouterView).backlog_s[0].tolist() == pytest.approx([0, 0, 0, 0])  # reported at 1.0, before it
    second = decide(world, 0)  # from 3.5 on 2 s of work: 0.5 s by 4, the rest from 5 to 6.5
    assert second[physics.WAIT] == pytest.approx(2.4)
    assert second[physics.GENERATION] == pytest.approx(3.0)
    view = seen(world, RouterView)  # at 1.6, reports of 1.0: nobody has heard of the failure yet
    assert view.pace[0].tolist() == [1, 1, 1, 1]
    assert view.backlog_s[0, 0] == pytest.approx(1.1 + 2.0 - 1.6)  # what this home has placed there itself
    assert decide(world, 3)[physics.SITE] == 3
    view = seen(world, RouterView)  # at 2.4, reports of 2.0: it is down with 2.3 s of work, and back after the mean 7 s
    assert view.pace[0].tolist() == [0, 1, 1, 1]
    assert view.backlog_s[0, 0] == pytest.approx(7 + 2.3 - 0.4)
    assert view.speed[0, 0] == 2
    world.decide(torch.tensor([[0]]))
    assert world.observe().backlog_s.item() == pytest.approx(7 + 2.3)  # the site itself does not know more
    result = result_of(world.decide(torch.ones(1, 1, 1, 1)))[0]
    assert result[physics.WAIT] == pytest.approx(6.5 - 2.4)


def test_an_idle_site_that_has_failed_begins_when_it_is_back() -> None:
    scenario = small(outages={"factor": 0, "mean_up_s": 50, "mean_down_s": 7}, frames=1)
    happens = changes(scenario, 0.0, [0.5, 2.0])
    world = FleetWorld(scenario, requests=requests_of([ROW], scenario)._replace(happens=happens))
    keep(world, 1)
    row = decide(world, 0)
    assert row[physics.WAIT] == pytest.approx(1.0)
    assert row[physics.LOADED] == pytest.approx(1.5)
    assert row[physics.GENERATION] == pytest.approx(0.5)


def test_a_slow_site_takes_longer_and_says_so() -> None:
    scenario = small(outages={"factor": 0.5, "mean_up_s": 50, "mean_down_s": 7}, frames=1)
    happens = changes(scenario, 0.5, [0.5, 3.0])
    rows = [ROW, (1.1, 0, 0, 1.0, 8.0, 1.0)]
    world = FleetWorld(scenario, requests=requests_of(rows, scenario)._replace(happens=happens))
    keep(world)
    view = seen(world, RouterView)
    assert view.pace[0].tolist() == [0.5, 1, 1, 1]
    assert view.speed[0].tolist() == [1, 1, 0.5, 0.7]
    assert view.load_s[0].tolist() == [3, 1.5, 1.5, 0]
    assert view.full_s[0, 0] == 1
    row = decide(world, 0)  # loads 1 s of 1.5 s by 3, the rest by 3.5, then 0.5 s
    assert row[physics.LOADED] == pytest.approx(2.5)
    assert row[physics.GENERATION] == pytest.approx(0.5)
    assert seen(world, RouterView).backlog_s[0, 0] == pytest.approx(3 + 1 - 0.1)  # as its home believes


@pytest.mark.parametrize("keeps", [True, False])
def test_a_failure_may_empty_the_memory(keeps: bool) -> None:
    scenario = small(outages={"factor": 0, "mean_up_s": 50, "mean_down_s": 7, "keeps_models": keeps}, frames=1)
    happens = changes(scenario, 0.0, [1.2, 1.4])
    rows = [ROW, (1.1, 0, 0, 1.0, 8.0, 1.0), (1.3, 0, 0, 1.0, 8.0, 1.0), (1.9, 0, 0, 1.0, 8.0, 1.0)]
    world = FleetWorld(scenario, requests=requests_of(rows, scenario)._replace(happens=happens))
    keep(world, 0)
    loads = [decide(world, 0)[physics.LOADED] for _ in range(4)]
    # What was placed before the failure has found its model; what comes after it loads it once.
    assert loads == pytest.approx([0, 0, 0 if keeps else 1.5, 0])


def test_outages_last_as_long_as_they_should() -> None:
    outages = {"factor": 0, "mean_up_s": 30, "mean_down_s": 10}
    scenario = small(outages=outages, frame_s=200, frames=10, load=0.01)
    whole = draw_sites(scenario, 3, range(40))
    size = (whole.shape[2] - HEADER) // 3
    change_s, pace, done_s = (whole[..., HEADER + i * size : HEADER + (i + 1) * size] for i in range(3))
    real = np.isfinite(change_s)
    lasting = np.diff(np.where(real, change_s, np.nan), axis=2)
    assert np.nanmean(lasting[pace[..., :-1] == 0]) == pytest.approx(10, rel=0.05)
    assert np.nanmean(lasting[pace[..., :-1] == 1]) == pytest.approx(30, rel=0.05)
    assert (pace[..., 0] == 0).mean() == pytest.approx(0.25, abs=0.12)
    assert np.take_along_axis(pace, real.sum(2, keepdims=True) - 1, 2).all()  # in order for good
    assert np.nanmax(np.where(real, done_s, np.nan)) <= change_s[real].max()
    alone = draw_sites(scenario, 3, range(7, 8))
    size = min(alone.shape[2] - HEADER, whole.shape[2] - HEADER) // 3
    assert np.array_equal(alone[0, :, HEADER : HEADER + size], whole[7, :, HEADER : HEADER + size])
    quiet = draw_requests(small(frame_s=200, frames=10, load=0.01), 3, range(2))
    failing = draw_requests(scenario, 3, range(2))
    assert np.array_equal(quiet.arrival_s, failing.arrival_s)  # the same requests with and without outages


def test_loads_from_the_host_the_disk_and_with_noise() -> None:
    loading = {"host_memory_gb": [2, 2, 2], "host_s": 0.5}
    rows = [(1.0 + k, 0, model, 1.0, 8.0, 1.0) for k, model in enumerate([0, 1, 0, 1, 2, 0])]
    scenario = small(loading=loading, memory_gb=[3, 3, 3], frames=1, models=[*MODELS, {**MODELS[0], "size_gb": 3}])
    world = FleetWorld(scenario, requests=requests_of(rows, scenario))
    keep(world)
    # 0: from the disk; 1 evicts 0 (2 GB, to the host); 0 comes from there and evicts 1, which is too large for it;
    # 1 comes from the disk, 0 goes to the host; 2 evicts 1; 0 comes from the host.
    assert [decide(world, 0)[physics.LOADED] for _ in rows] == pytest.approx([1.5, 1.5, 0.5, 1.5, 1.5, 0.5])
    assert world.books.loads[0] == 6

    places = {"places": {"low": 1, "high": 4, "shape": {"kind": "empirical", "points": [1, 4]}}}
    scenario = small(loading=places)
    world = FleetWorld(scenario, 50)
    load_s = seen(world, CacherView).load_s / torch.tensor([1.5, 1.5, 2.0])
    assert sorted(set(load_s.flatten().tolist())) == pytest.approx([1, 4])
    assert (load_s == 4).double().mean() == pytest.approx(0.5, abs=0.08)

    noisy = small(loading={"noise": {"low": 0.5, "high": 2}}, frames=1)
    requests = requests_of([ROW, (2.0, 0, 1, 1.0, 8.0, 1.0)], noisy)
    happens = draw_sites(noisy, 5, range(1))
    world = FleetWorld(noisy, requests=requests._replace(happens=happens))
    keep(world)
    expected_s = seen(world, RouterView).load_s[0, 0].item()
    taken = [decide(world, 0)[physics.LOADED] for _ in range(2)]
    assert expected_s == 1.5  # the noise is known afterwards
    assert taken == pytest.approx((1.5 * happens[0, 0, HEADER : HEADER + 2]).tolist())


def test_sites_may_be_faster_with_some_models() -> None:
    scenario = small(model_speed=[[1, 2, 1], [1, 1, 1], [4, 1, 1]], frames=1)
    world = FleetWorld(scenario, requests=requests_of([ROW, (1.1, 0, 1, 1.0, 8.0, 1.0)], scenario))
    keep(world, 0, 1)
    assert seen(world, RouterView).speed[0].tolist() == [2, 1, 2, 0.7]
    decide(world, 2)
    assert seen(world, RouterView).speed[0].tolist() == [4, 1, 0.5, 0.7]
    assert decide(world, 0)[physics.GENERATION] == pytest.approx(2 / 4)
    work_s = np.array([1.0, 2.0, 1.0])
    busy = work_s * 3.5 / np.array([2 + 1 + 2, 4 + 1 + 0.5, 3.5])
    assert scenario.mean_work_s * scenario.seconds_per_work_s == pytest.approx(busy)


def test_extra_time_noise_asked_steps_and_pictures_that_are_made_together() -> None:
    scenario = small(further_picture=0.25, frames=1, models=[{**MODELS[0], "fixed_s": 2}])
    rows = [(1.0, 0, 0, 3.0, 8.0, 1.0)]
    requests = requests_of(rows, scenario, asked=[8], extra=[0.6], noise=[1.5], uplink=[0.25])
    world = FleetWorld(scenario, requests=requests)
    keep(world, 0)
    view = seen(world, RouterView)
    least, full = 2 + 4 * 0.1 * 1.5 + 0.6, 2 + 8 * 0.1 * 1.5 + 0.6
    assert view.least_s[0, 0] == pytest.approx(least / 2)
    assert view.full_s[0, 0] == pytest.approx(full / 2)
    assert view.network_s[0].tolist() == pytest.approx([0.25, 0.55, 0.55, 2.25])
    row = decide(world, 0)
    assert row[physics.STEPS] == 8
    assert row[physics.GENERATION] == pytest.approx(1.5 * full / 2)
    assert row[physics.TRANSFER] == 0.25
    assert row[physics.QUALITY] == pytest.approx(0.9)  # all that it asked for
    fewer = requests_of(rows, scenario, asked=[3])  # fewer than the fewest steps: it gets all of them
    world = FleetWorld(scenario, requests=fewer)
    keep(world, 0)
    row = decide(world, 0, 0.0)
    assert row[physics.STEPS] == 3
    assert row[physics.QUALITY] == pytest.approx(0.9)


def test_curves_by_hand() -> None:
    model = {key: value for key, value in MODELS[0].items() if key != "least_quality"}
    points = {"kind": "points", "steps": [0.6, 1], "quality": [0.9, 1]}
    for curve, half in (({"kind": "exponential", "rate": 3.5}, None), (points, 0.75)):
        scenario = small(models=[{**model, "least_steps": 2}], curve=curve, frames=1)
        world = FleetWorld(scenario, requests=requests_of([ROW], scenario))
        keep(world, 0)
        exact = 0.9 * ((1 - np.exp(-3.5 * 0.5)) / (1 - np.exp(-3.5)) if half is None else half)
        grades = seen(world, RouterView).grades[0]
        assert grades[0] == seen(world, RouterView).least_quality
        assert grades[-1] == pytest.approx(0.9)
        assert (grades.diff() > 0).all()
        assert (grades.diff().diff() < 1e-12).all()  # concave
        assert decide(world, 0, 3 / 8)[physics.QUALITY] == pytest.approx(exact)  # 5 of 10 steps
    linear = FleetWorld(small(frames=1), requests=requests_of([ROW]))
    keep(linear, 0)
    assert seen(linear, RouterView).grades[0].tolist() == pytest.approx(np.linspace(0.3, 0.9, 9).tolist())


def test_late_requests_may_keep_some_worth_and_the_cloud_may_be_paid_by_its_work() -> None:
    scenario = small(late_decay=2, late_penalty=0.1, cloud={"speed": 0.5, "distance_s": 2, "price": 0.1,
                     "price_per_work_s": 0.08}, frames=1)  # fmt: skip
    rows = [(1.0, 0, 0, 2.0, 4.0, 2.0)]
    world = FleetWorld(scenario, requests=requests_of(rows, scenario))
    keep(world)
    assert seen(world, RouterView).work_price[0].tolist() == pytest.approx([0, 0, 0, 0.04])
    row = decide(world, 3)  # 2 s there and back, 2 s of work at half the speed: 6 s of 4 s
    assert row[physics.DELAY] == pytest.approx(6)
    worth = 2 * (0.9 * np.exp(-2 * 0.5) - 0.1)
    assert row[physics.UTILITY] == pytest.approx(worth - 0.005 * 6 - 0.1 - 0.08 * 2)


def test_every_pair_of_sites_may_have_a_link_of_its_own() -> None:
    links = {
        "hop_s": [[9, 0.1, 0.2], [0.3, 9, 0.4], [0.5, 0.6, 9]],
        "rate_mbit_s": [[10, 20, 40], [10, 10, 10], [10, 10, 10]],
    }
    scenario = small(**links, upload_mbit=4, result_mbit=2, frames=1, deadline_s={"low": 20, "high": 20})
    world = FleetWorld(scenario, requests=requests_of([ROW], scenario))
    keep(world, 0)
    assert seen(world, RouterView).network_s[0].tolist() == pytest.approx([0.2, 0.1 + 0.2 + 0.1, 0.2 + 0.1 + 0.05, 2])
    row = decide(world, 1)
    assert row[physics.TRANSFER] == pytest.approx(0.3)
    assert row[physics.RETURN] == pytest.approx(0.1)


def test_who_asks_in_the_same_slot_shares_the_band() -> None:
    radio = {"slot_s": 5, "fading": "none", "uplink_mhz": 2, "side_m": 400}
    scenario = small(radio=radio, upload_mbit=3, load=2)
    requests = draw_requests(scenario, 4, range(3))
    for e in range(3):
        n = requests.number[e]
        uplink_s, place = requests.more[e, :n, UPLINK], (requests.arrival_s[e, :n] // 5, requests.home[e, :n])
        users = np.array([((place[0] == a) & (place[1] == b)).sum() for a, b in zip(*place, strict=True)])
        nearest, farthest = (
            link_rate(torch.from_numpy(1 / users), torch.tensor(10 ** (-12.81 - 3.76 * np.log10(km))), 2, 23, -174)
            for km in (1e-3, 0.4 / 2**0.5)
        )
        assert (uplink_s >= 3 / nearest.numpy()).all()
        assert (uplink_s <= 3 / farthest.numpy() * (1 + 1e-9)).all()
    assert users.max() > 1
    assert (requests.more[0, :, EXTRA][: requests.number[0]] == 0).all()
    assert (requests.more[0, :, NOISE][: requests.number[0]] == 1).all()
    assert set(requests.more[0, : requests.number[0], ASKED].tolist()) == {10}
