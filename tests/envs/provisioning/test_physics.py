# SPDX-License-Identifier: Apache-2.0
"""Service in a slot: rates, delays, quality and cost worked out by hand, and what must hold for any allocation."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.envs.core.radio import link_rate, watts
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.curves import Curve, CurveTensors
from edgegen.envs.provisioning.physics import serve
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import AllocatorView
from edgegen.envs.provisioning.world import ProvisioningWorld

N0 = 10**-20.4  # W/Hz, -174 dBm/Hz
P_USER = 10**-0.7  # W, 23 dBm


def doubles(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def two_users(**changes: Any) -> ProvisioningScenario:
    fields = {"users": 2, "models": 3, "size_gb": [1, 1, 1], **changes}
    return load_scenario("t2drl-default", fields, ProvisioningScenario)


def slot(hits: list[bool], snr: float = 3.0, budget: float = 1000.0) -> AllocatorView:
    """Two users with 60 Mbit up and 80 Mbit down; at half the band their uplink has the given ratio to noise."""
    gain = snr * N0 * 10e6 / P_USER
    curve = Curve(a1_steps=60, a2_tv=110, a3_steps=170, a4_tv=28, b1_s_per_step=0.18, b2_s=5.74)
    curves = CurveTensors.of([curve, curve], dtype=torch.float64)
    cache = torch.tensor([[[hits[0], hits[1], False]]])
    return AllocatorView(
        0,
        0,
        torch.tensor([[[0, 1]]]),
        torch.tensor([[hits]]),
        cache,
        doubles([[[60, 60]]]),
        doubles([[[80, 80]]]),
        doubles([[[gain, gain]]]),
        doubles([[budget]]),
        CurveTensors(*(values[None, None] for values in curves.values())),
    )


def test_powers_by_hand() -> None:
    assert watts(30) == pytest.approx(1)
    assert watts(23) == pytest.approx(0.19952623)
    assert watts(-174) == pytest.approx(3.98107e-21, rel=1e-5)


def test_rates_by_hand() -> None:
    # Half of 20 MHz at a ratio of 3 to the noise in it: 10 MHz * log2(4) = 20 Mbit/s.
    gain = doubles(3 * N0 * 10e6 / P_USER)
    assert float(link_rate(0.5, gain, 20, 23, -174)) == pytest.approx(20)
    # All of it: twice the noise, 20 * log2(2.5). A quarter: half the noise, 5 * log2(7).
    assert float(link_rate(1.0, gain, 20, 23, -174)) == pytest.approx(20 * math.log2(2.5))
    assert float(link_rate(0.25, gain, 20, 23, -174)) == pytest.approx(5 * math.log2(7))
    # A fixed noise power of -114 dBm against 23 dBm: a gain of 3 * 10^-13.7 makes a ratio of 3 whatever the share.
    fixed = doubles(3 * 10**-13.7)
    assert float(link_rate(0.5, fixed, 20, 23, -174, -114)) == pytest.approx(20)
    assert float(link_rate(0.25, fixed, 20, 23, -174, -114)) == pytest.approx(10)
    # A weak link: log2(1 + x) is x / ln 2.
    assert float(link_rate(1.0, torch.tensor(1e-22), 20, 23, -174)) == pytest.approx(
        20 * 1e-22 * P_USER / (N0 * 20e6) / math.log(2), rel=1e-5
    )


def test_a_hit_and_a_miss_by_hand() -> None:
    outcome = serve(two_users(), slot([True, False]), doubles([[[0.5, 0.5]]]), doubles([[[0.12, 0.5]]]))
    parts = outcome.delays
    torch.testing.assert_close(parts.uplink_s, doubles([[[3, 3]]]))  # 60 Mbit at 20 Mbit/s
    torch.testing.assert_close(parts.backhaul_s, doubles([[[0, 2.8]]]))  # 140 Mbit at 100 / 2 Mbit/s
    # 120 steps at the edge; in the cloud 170.
    assert outcome.steps.tolist() == [[[120, 0]]]
    torch.testing.assert_close(parts.generation_s, doubles([[[0.18 * 120 + 5.74, 0.18 * 170 + 5.74]]]))
    # Downlink: 43 dBm are a hundred times 23 dBm, divided by two like the band of 40 MHz, so the ratio to noise is
    # 100 * 3 * 10 / 40 = 75 in 20 MHz.
    torch.testing.assert_close(parts.downlink_s, doubles([[[80 / (20 * math.log2(76))] * 2]]))
    # 110 - 82 / 110 * (120 - 60)
    torch.testing.assert_close(outcome.tv, doubles([[[110 - 82 * 60 / 110, 28]]]))
    total = 3 + 0.18 * 120 + 5.74 + 80 / (20 * math.log2(76))
    assert float(outcome.delays.total_s[0, 0, 0]) == pytest.approx(total)
    assert float(outcome.cost[0, 0, 0]) == pytest.approx(0.7 * total + 0.3 * (110 - 82 * 60 / 110))
    assert float(outcome.reward) == pytest.approx(-float(outcome.cost.mean()))
    assert outcome.hit.tolist() == [[[True, False]]]
    assert not outcome.useless.any()
    assert not outcome.late.any()


def test_a_hit_without_enough_steps_is_useless() -> None:
    outcome = serve(two_users(), slot([True, True]), doubles([[[0.5, 0.5]]]), doubles([[[0.059, 0.06]]]))
    assert outcome.steps.tolist() == [[[59, 60]]]
    assert outcome.tv.tolist() == [[[110, 110]]]
    assert outcome.useless.tolist() == [[[True, False]]]
    nothing = serve(two_users(), slot([True, True]), doubles([[[0.5, 0.5]]]), doubles([[[0, 0]]]))
    torch.testing.assert_close(nothing.delays.generation_s, doubles([[[5.74, 5.74]]]))


def test_nobody_gets_more_steps_than_help() -> None:
    outcome = serve(two_users(), slot([True, True]), doubles([[[0.5, 0.5]]]), doubles([[[0.9, 0.1]]]))
    assert outcome.steps.tolist() == [[[170, 100]]]


def test_the_switches_of_a_scenario() -> None:
    equal = doubles([[[0.5, 0.5]]])

    def total(hits: list[bool], **changes: Any) -> list[float]:
        delays = serve(two_users(**changes), slot(hits), equal, equal).delays
        return [float(part.sum()) for part in (delays.backhaul_s, delays.generation_s)]

    saturated = 0.18 * 170 + 5.74
    assert total([False, False]) == pytest.approx([2 * 2.8, 2 * saturated])
    assert total([True, False], backhaul_shared_by="misses") == pytest.approx([1.4, 2 * saturated])
    assert total([False, False], backhaul_shared_by="misses") == pytest.approx([2 * 2.8, 2 * saturated])
    assert total([True, True], backhaul_shared_by="misses") == pytest.approx([0, 2 * saturated])
    assert total([True, False], cloud_time_factor=0.5) == pytest.approx([2.8, 1.5 * saturated])
    late = serve(two_users(max_delay_s=41, late_penalty=10), slot([True, False]), equal, equal)
    # The hit takes 3 + 36.34 + 0.64 s, the miss 2.8 s more.
    assert late.late.tolist() == [[[False, True]]]
    assert float(late.reward) == pytest.approx(-float(late.cost.mean()) - 10 / 2)
    fixed = serve(two_users(noise_total_dbm=-114), slot([True, True]), equal, equal).delays
    ratio = 3 * 10e6 * N0 / P_USER * 10**1.3 / 2 / 10**-14.4
    torch.testing.assert_close(fixed.downlink_s, doubles([[[80 / (20 * math.log2(1 + ratio))] * 2]]))


def test_cells_share_one_backhaul() -> None:
    simulator = ProvisioningWorld(two_users(cells=2, backhaul_shared_by="misses"), dtype=torch.float64)
    simulator.cache(torch.tensor([[[1, 1, 1], [0, 0, 0]]]))
    seen = simulator.observe_slot()
    delays = simulator.allocate(torch.full((1, 2, 2), 0.5), torch.zeros(1, 2, 2)).delays
    data = seen.upload_mbit + seen.result_mbit
    torch.testing.assert_close(delays.backhaul_s[0, 1], data[0, 1] / 50)  # two misses on 100 Mbit/s
    assert delays.backhaul_s[0, 0].tolist() == [0, 0]
    everyone = serve(two_users(cells=2), seen, torch.full((1, 2, 2), 0.5), torch.zeros(1, 2, 2)).delays
    torch.testing.assert_close(everyone.backhaul_s[0, 1], data[0, 1] / 25)  # four users


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["t2drl-default", "t2drl-contended:cells3"]))
def test_invariants_of_any_allocation(seed: int, name: str) -> None:
    scenario = load_scenario(name, {"frames": 1, "slots_per_frame": 1})
    simulator = ProvisioningWorld(scenario, 2, dtype=torch.float64)
    simulator.reset(seed=seed)
    rng = torch.Generator().manual_seed(seed)
    shape = (2, scenario.cells, scenario.users)
    simulator.cache(torch.rand(2, scenario.cells, scenario.models, generator=rng) < 0.5)
    seen = simulator.observe_slot()
    bandwidth, compute = (torch.randn(shape, generator=rng, dtype=torch.float64) for _ in range(2))
    outcome = simulator.allocate(bandwidth, compute)
    assert (outcome.steps.sum(-1) <= seen.steps_budget).all()
    assert (outcome.steps <= seen.curves.saturation_steps).all()
    assert (outcome.steps[~seen.hit] == 0).all()
    assert (outcome.bandwidth.sum(-1) <= 1 + 1e-6).all()
    assert (outcome.delays.backhaul_s[seen.hit] == 0).all()
    assert (outcome.delays.backhaul_s[~seen.hit] > 0).all()
    assert all((part >= 0).all() for part in vars(outcome.delays).values())
    assert (outcome.tv <= seen.curves.a2_tv).all()
    assert (outcome.tv >= seen.curves.a4_tv).all()
    torch.testing.assert_close(outcome.cost, 0.7 * outcome.delays.total_s + 0.3 * outcome.tv)
    # More bandwidth for one user never makes that user wait longer.
    more = serve(scenario, seen, outcome.bandwidth * 0.5, compute).delays.uplink_s
    assert (more >= outcome.delays.uplink_s).all()


def test_alternatives_are_served_side_by_side() -> None:
    scenario = load_scenario("t2drl-contended", {"models": 3})
    simulator = ProvisioningWorld(scenario, 4, dtype=torch.float64)
    simulator.cache(torch.zeros(4, 1, 3))
    seen = simulator.observe_slot()
    caches = torch.tensor(list(itertools.product([False, True], repeat=3)))[:, None, None].expand(8, 4, 1, 3)
    share = torch.full((4, 1, 15), 1 / 15, dtype=torch.float64)
    together = serve(scenario, seen.with_cache(caches), share, share)
    assert together.reward.shape == (8, 4, 1)
    for number in range(8):
        alone = serve(scenario, seen.with_cache(caches[number]), share, share)
        torch.testing.assert_close(together.reward[number], alone.reward)
        assert torch.equal(together.hit[number], alone.hit)
    many = serve(scenario, seen, torch.rand(5, 4, 1, 15).double(), share)
    assert many.cost.shape == many.delays.total_s.shape == (5, 4, 1, 15)
