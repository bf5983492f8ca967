# SPDX-License-Identifier: Apache-2.0
"""State vectors: laid out as documented, of order one, and the same whatever the order of alike users."""

from typing import Any

import pytest
import torch

from edgegen.algorithms.methods.t2drl import T2DRLSettings
from edgegen.algorithms.roles.allocator.state import SlotState, as_users
from edgegen.algorithms.roles.cacher.state import FrameState
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.world import ProvisioningWorld

CONTENDED = "t2drl-contended:cells3"
EVERYTHING = T2DRLSettings(see_model_sizes=True, see_frame_number=True, see_curves=True)
NOTHING = T2DRLSettings(
    see_skewness=False,
    see_previous_cache=False,
    see_frequency=False,
    request_code="index",
    see_cache=False,
    user_order="hits_by_gain",
)


def in_the_second_frame(name: str = CONTENDED, copies: int = 2, **changes: Any) -> ProvisioningWorld:
    simulator = ProvisioningWorld(load_scenario(name, {"frames": 4, "slots_per_frame": 2, **changes}), copies)
    rng = torch.Generator().manual_seed(0)
    shape = (copies, simulator.scenario.cells)
    simulator.cache(torch.rand(*shape, simulator.scenario.models, generator=rng) < 0.4)
    for _ in range(2):
        share = torch.rand(*shape, simulator.scenario.users, generator=rng)
        simulator.allocate(share, share)
    return simulator


@pytest.mark.parametrize("settings", [T2DRLSettings(), EVERYTHING, NOTHING])
@pytest.mark.parametrize("name", ["t2drl-default", CONTENDED])
def test_sizes_and_scales(settings: T2DRLSettings, name: str) -> None:
    simulator = in_the_second_frame(name)
    frame, slot = FrameState(simulator.scenario, settings), SlotState(simulator.scenario, settings)
    seen = frame(simulator.observe_frame())
    assert seen.shape == (2, simulator.scenario.cells, frame.size)
    simulator.cache(simulator.observe_frame().previous_cache)
    observation = simulator.observe_slot()
    state = slot(observation, slot.order(observation))
    assert state.shape == (2, simulator.scenario.cells, slot.size)
    assert state.isfinite().all()
    assert state.abs().max() < 8
    assert seen.abs().max() < 8


def test_frame_states_are_laid_out_as_documented() -> None:
    simulator = in_the_second_frame()
    seen = simulator.observe_frame()
    state = FrameState(simulator.scenario, EVERYTHING)(seen)
    assert state.shape[-1] == 3 + 4 * 10 - 10 + 1
    assert state[..., :3].argmax(-1).tolist() == seen.skewness_state.tolist()
    assert state[..., :3].sum(-1).tolist() == [[1] * 3] * 2
    assert torch.equal(state[..., 3:13] > 0, seen.previous_cache)
    torch.testing.assert_close(state[..., 13:23], seen.frequency * 10)
    torch.testing.assert_close(state[..., 23:33], (seen.size_gb / 20).float())
    assert (state[..., 33] == 0.25).all()
    smallest = FrameState(simulator.scenario, NOTHING)
    assert (smallest(seen) == torch.ones(2, 3, 1)).all()
    assert FrameState(simulator.scenario, T2DRLSettings()).size == 3 + 10 + 10


def test_slot_states_are_laid_out_as_documented() -> None:
    simulator = in_the_second_frame("t2drl-contended")
    simulator.cache(simulator.observe_frame().previous_cache)
    seen = simulator.observe_slot()
    state = SlotState(simulator.scenario, EVERYTHING)(seen)[:, 0]
    users, models = 15, 10
    gain, state = state[:, :users], state[:, users:]
    assert torch.equal(gain.argsort(), seen.gain[:, 0].argsort())
    request, state = state[:, : users * models].view(2, users, models), state[:, users * models :]
    assert torch.equal(request.argmax(-1), seen.model[:, 0])
    assert (request.sum(-1) == 1).all()
    upload, result, hit, cache, curves = state.split([users, users, users, models, 6 * users], dim=1)
    torch.testing.assert_close(upload, seen.upload_mbit[:, 0] / 80)
    torch.testing.assert_close(result, seen.result_mbit[:, 0] / 80)
    assert torch.equal(hit > 0, seen.hit[:, 0])
    assert torch.equal(cache > 0, seen.cache[:, 0])
    torch.testing.assert_close(curves.view(2, 6, users)[:, 2], seen.curves.a3_steps[:, 0] / 220)
    assert curves.max() <= 1
    index = SlotState(simulator.scenario, T2DRLSettings(request_code="index"))(seen)[:, 0]
    torch.testing.assert_close(index[:, users : 2 * users], seen.model[:, 0] / 10)


@pytest.mark.parametrize("name", ["t2drl-default", "t2drl-contended"])
def test_gains_are_standardised(name: str) -> None:
    scenario = load_scenario(name)
    simulator, builder = ProvisioningWorld(scenario, 100), SlotState(scenario, T2DRLSettings())
    simulator.reset(seed=77)
    simulator.cache(torch.zeros(100, 1, 10))
    gain = builder(simulator.observe_slot())[..., : scenario.users]
    assert float(gain.mean()) == pytest.approx(0, abs=0.15)
    assert float(gain.std()) == pytest.approx(1, abs=0.15)
    alike = {"fading": "none", "side_m": 1e-3, "mobility.kind": "fixed"}  # everybody at the least distance
    still = SlotState(load_scenario(name, alike), T2DRLSettings())
    assert torch.isfinite(still(simulator.observe_slot())).all()


def test_ordered_users_look_the_same_whatever_their_names() -> None:
    simulator = in_the_second_frame("t2drl-default")
    simulator.cache(simulator.observe_frame().previous_cache)
    seen = simulator.observe_slot()
    builder = SlotState(simulator.scenario, T2DRLSettings(user_order="hits_by_gain", see_curves=True))
    order = builder.order(seen)
    assert order is not None
    hit, gain = seen.hit.gather(-1, order), seen.gain.gather(-1, order)
    hits = hit.sum(-1)
    for e in range(2):
        count = int(hits[e, 0])
        assert hit[e, 0].tolist() == [True] * count + [False] * (10 - count)
        assert (gain[e, 0, :count].diff() <= 0).all()
        assert (gain[e, 0, count:].diff() <= 0).all()
    shuffle = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    per_user = ("model", "hit", "upload_mbit", "result_mbit", "gain")
    curves = type(seen.curves)(*(values[..., shuffle] for values in seen.curves.values()))
    renamed = type(seen)(**{**vars(seen), "curves": curves, **{f: getattr(seen, f)[..., shuffle] for f in per_user}})
    assert torch.equal(builder(renamed, builder.order(renamed)), builder(seen, order))
    assert torch.equal(as_users(gain, order), seen.gain)
    assert as_users(gain, None) is gain
    assert SlotState(simulator.scenario, T2DRLSettings()).order(seen) is None
