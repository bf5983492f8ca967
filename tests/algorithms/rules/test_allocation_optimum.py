# SPDX-License-Identifier: Apache-2.0
"""The best allocation of a slot, against general solvers and against trying everything."""

import itertools

import numpy as np
import pytest
import torch
from scipy import optimize

from edgegen.algorithms.rules.allocation_optimum import best_allocation, best_bandwidth, best_steps, best_steps_value
from edgegen.algorithms.rules.caching import equal_bandwidth, equal_compute
from edgegen.envs.core.radio import link_rate
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.curves import CurveTensors
from edgegen.envs.provisioning.physics import serve
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import AllocatorView
from edgegen.envs.provisioning.world import ProvisioningWorld

ALPHA = 0.7


def slots(name: str, copies: int = 4, **changes) -> tuple[ProvisioningScenario, AllocatorView]:
    scenario = load_scenario(name, {"frames": 2, "slots_per_frame": 2, **changes}, ProvisioningScenario)
    simulator = ProvisioningWorld(scenario, copies, dtype=torch.float64)
    simulator.reset(seed=5)
    cache = torch.zeros(copies, scenario.cells, scenario.models, dtype=torch.bool)
    cache[..., [0, 2, 4]] = True
    simulator.cache(cache)
    return scenario, simulator.observe_slot()


def uplink_s(scenario, observation: AllocatorView, share: torch.Tensor) -> torch.Tensor:
    noise = (scenario.noise_dbm_hz, scenario.noise_total_dbm)
    rate = link_rate(share, observation.gain, scenario.uplink_mhz, scenario.user_power_dbm, *noise)
    return (observation.upload_mbit / rate).sum(-1)


@pytest.mark.parametrize(
    "changes",
    [{}, {"noise_total_dbm": -114}, {"min_bandwidth_share": 0.15}, {"uplink_mhz": 1000.0}, {"user_power_dbm": -60}],
)
def test_bandwidth_agrees_with_a_general_solver(changes):
    scenario, seen = slots("t2drl-contended", users=5, **changes)
    share = best_bandwidth(scenario, seen)
    assert bool((share >= scenario.min_bandwidth_share).all())
    torch.testing.assert_close(share.sum(-1), torch.ones_like(share[..., 0]), rtol=0, atol=1e-12)
    total = uplink_s(scenario, seen, share)
    for copy in range(4):
        one = AllocatorView(**{**vars(seen), "gain": seen.gain[copy], "upload_mbit": seen.upload_mbit[copy]})
        scale = float(total[copy, 0])

        def delay(values, one=one, scale=scale):
            return float(uplink_s(scenario, one, torch.from_numpy(values)[None])[0]) / scale

        found = optimize.minimize(
            delay,
            np.full(5, 0.2),
            method="SLSQP",
            bounds=[(scenario.min_bandwidth_share, 1)] * 5,
            constraints={"type": "ineq", "fun": lambda values: 1 - values.sum()},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert found.success
        assert found.fun == pytest.approx(1, rel=1e-6)
        assert found.fun >= 1 - 1e-9
        np.testing.assert_allclose(share[copy, 0].numpy(), found.x, atol=5e-3)  # its gradients are differences


@pytest.mark.parametrize("power_dbm", [23, -20, -60])
def test_more_bandwidth_is_worth_the_same_to_everybody(power_dbm):
    scenario, seen = slots("t2drl-default", user_power_dbm=power_dbm)
    share = best_bandwidth(scenario, seen).requires_grad_()
    uplink_s(scenario, seen, share).sum().backward()
    assert share.grad is not None
    torch.testing.assert_close(share.grad, share.grad[..., :1].expand(share.shape), rtol=1e-9, atol=0)


def test_nothing_to_send_takes_the_least_share():
    scenario, seen = slots("t2drl-default", upload_mb={"low": 0, "high": 0})
    torch.testing.assert_close(best_bandwidth(scenario, seen), torch.full_like(seen.gain, 0.1))
    seen.upload_mbit[..., 0] = 1
    share = best_bandwidth(scenario, seen)
    torch.testing.assert_close(share[..., 0], torch.full_like(share[..., 0], 1 - 9e-3))


def random_curves(rng: np.random.Generator, rows: int, users: int, whole: bool) -> CurveTensors:
    a1 = rng.integers(0, 5, (rows, users)) + (0 if whole else rng.random((rows, users)))
    a3 = a1 + (rng.integers(1, 8, (rows, users)) if whole else 0.2 + 7 * rng.random((rows, users)))
    a4 = rng.random((rows, users)) * 20
    a2 = a4 + rng.random((rows, users)) * 30
    b1 = rng.random((rows, users)) ** 3 * 3
    return CurveTensors(*(torch.from_numpy(np.asarray(v, dtype=np.float64)) for v in (a1, a2, a3, a4, b1, b1 * 0 + 1)))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("budget", [0, 1, 7, 12, 30])
def test_steps_are_as_good_as_trying_everything(whole, budget):
    rows, users = 60, 3
    rng = np.random.default_rng(budget)
    curves = random_curves(rng, rows, users, whole)
    hit = torch.from_numpy(rng.random((rows, users)) < 0.8)
    budgets = torch.full((rows,), budget)
    steps = best_steps(curves, hit, budgets, ALPHA)
    assert bool((steps.sum(-1) <= budget).all())
    assert not bool((steps * ~hit).any())
    every = torch.tensor([x for x in itertools.product(range(14), repeat=users) if sum(x) <= budget]).double()

    def cost(made: torch.Tensor) -> torch.Tensor:
        return ((ALPHA * curves.time_s(made) + (1 - ALPHA) * curves.tv(made)) * hit).sum(-1)

    allowed = (every[:, None] * ~hit).sum(-1) == 0
    tried = torch.where(allowed, cost(every[:, None].expand(-1, rows, -1)), torch.inf).amin(0)
    torch.testing.assert_close(cost(steps.double()), tried, rtol=1e-12, atol=1e-12)
    value = best_steps_value(curves, hit, budgets, ALPHA)
    torch.testing.assert_close(cost(torch.zeros(rows, users)) - value, tried, rtol=1e-12, atol=1e-12)


def test_no_steps_below_where_quality_improves():
    scenario, seen = slots("t2drl-contended", 16)
    steps = best_steps(seen.curves, seen.hit, seen.steps_budget, scenario.delay_weight)
    assert not bool(((steps > 0) & (steps <= seen.curves.a1_steps)).any())
    partial = (steps > 0) & (steps < seen.curves.saturation_steps)
    assert bool((partial.sum(-1) <= 1).all())


def test_the_simulator_makes_exactly_the_steps_that_were_chosen():
    scenario, seen = slots("t2drl-contended", 16)
    single = AllocatorView(
        **{
            **vars(seen),
            **{name: getattr(seen, name).float() for name in ("upload_mbit", "result_mbit", "gain", "steps_budget")},
            "curves": CurveTensors(*(value.float() for value in seen.curves.values())),
        }
    )
    steps = best_steps(single.curves, single.hit, single.steps_budget, scenario.delay_weight)
    outcome = serve(scenario, single, *best_allocation(scenario, single))
    assert torch.equal(outcome.steps.long(), steps)


@pytest.mark.parametrize("name", ["t2drl-default", "t2drl-contended", "t2drl-contended:cells3"])
def test_nothing_random_is_better(name):
    scenario, seen = slots(name, 8)
    best = serve(scenario, seen, *best_allocation(scenario, seen)).cost.sum(-1)
    equal = serve(scenario, seen, equal_bandwidth(seen), equal_compute(seen)).cost.sum(-1)
    assert bool((best < equal).all())
    generator = torch.Generator().manual_seed(0)
    shape = (300, *seen.gain.shape)
    bandwidth, compute = (torch.rand(shape, generator=generator, dtype=torch.float64) ** p for p in (0.5, 4))
    bandwidth, compute = bandwidth / bandwidth.sum(-1, keepdim=True), compute * seen.hit
    compute = compute / compute.sum(-1, keepdim=True).clamp_min(1e-9)
    assert bool((serve(scenario, seen, bandwidth, compute).cost.sum(-1) >= best - 1e-9).all())
