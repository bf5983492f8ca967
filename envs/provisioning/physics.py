# SPDX-License-Identifier: Apache-2.0
"""Service in one slot: from shares of bandwidth and computing to delay, quality and cost of every request.

Pure functions on tensors with any leading axes, cells C and users N. Their equations are our choice, after the siblings
and codes named in :mod:`edgegen.envs.provisioning.scenario`; no loop runs over copies, cells or users.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from edgegen.envs.core.radio import link_rate
from edgegen.envs.provisioning.amenders import fit_bandwidth, fit_compute, steps_from_share
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.terms import Facts, further_cost
from edgegen.envs.provisioning.view import ALLOCATOR, CACHER, AllocatorView


@dataclass(frozen=True)
class DelayParts:
    """Parts of the delay of every request ``[..., C, N]``, s.

    Attributes:
        uplink_s: Sending the request up.
        backhaul_s: Detour between base station and cloud, both ways; 0 for hits.
        generation_s: Making the picture, at the edge or in the cloud.
        downlink_s: Sending the picture down.
    """

    uplink_s: Tensor
    backhaul_s: Tensor
    generation_s: Tensor
    downlink_s: Tensor

    @property
    def total_s(self) -> Tensor:
        """Delay of the request, the sum of the parts."""
        return self.uplink_s + self.backhaul_s + self.generation_s + self.downlink_s


@dataclass(frozen=True)
class SlotOutcome:
    """What came of the allocation of a slot, per user ``[..., C, N]``.

    Attributes:
        bandwidth: Uplink share used, feasible.
        compute: Computing share used, feasible.
        hit: Whether the request was served at the edge, bool.
        steps: Denoising steps made at the edge; 0 for misses.
        useless: Hits whose steps are fewer than A1, where quality starts to improve, bool.
        late: Requests with a delay beyond the scenario's limit, bool.
        delays: Parts of the delay, s.
        tv: Total variation of the picture, lower is better.
        cost: Weighted sum of delay and TV, and of what else the objective names.
        reward: Minus the mean cost of a cell's users, and minus the penalty for late requests ``[..., C]``.
        frame_reward: Reward of the frame that this slot is the last of ``[E, C]``; None in all others.
        amounts: What further terms of the scenario's objective measure, by name; they are part of the cost.
    """

    bandwidth: Tensor
    compute: Tensor
    hit: Tensor
    steps: Tensor
    useless: Tensor
    late: Tensor
    delays: DelayParts
    tv: Tensor
    cost: Tensor
    reward: Tensor
    frame_reward: Tensor | None = None
    amounts: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def rewards(self) -> dict[str, Tensor]:
        """The allocators' rewards, and the cachers' where a frame is over ``[E, C]``."""
        frame = {} if self.frame_reward is None else {CACHER: self.frame_reward}
        return {ALLOCATOR: self.reward, **frame}


def serve(
    scenario: ProvisioningScenario, observation: AllocatorView, bandwidth: Tensor, compute: Tensor
) -> SlotOutcome:
    """Serve the requests of one slot: the heart of the simulator, a pure function.

    Hits:    D = D_up + B1 x + B2 + D_dn,  Q = TV(x),  x = min(⌊ξ X⌋, A3).
    Misses:  D = D_up + D_bh + B1 A3 + B2 + D_dn,  Q = A4: the cloud runs at saturation.
    D_up = d_in/r_up;  D_dn = d_out/r_dn;  D_bh = (d_in + d_out)/(share of the backhaul);  G = α D + (1 − α) Q.

    Args:
        scenario: The constants.
        observation: The slot.
        bandwidth: Uplink shares ``[..., E, C, N]``, made feasible; further leading axes are for alternatives.
        compute: Computing shares, likewise.
    """
    hit, curves, users = observation.hit, observation.curves, observation.model.shape[-1]
    bandwidth = fit_bandwidth(bandwidth, scenario.min_bandwidth_share)
    compute = fit_compute(compute, hit)
    saturation = curves.saturation_steps
    steps = steps_from_share(compute, observation.steps_budget[..., None], saturation)

    noise = (scenario.noise_dbm_hz, scenario.noise_total_dbm)
    upload_mbit, result_mbit, gain = observation.upload_mbit, observation.result_mbit, observation.gain
    uplink_s = upload_mbit / link_rate(bandwidth, gain, scenario.uplink_mhz, scenario.user_power_dbm, *noise)
    # Band and power of the base station are divided equally, so their ratio is that of the whole band when the noise
    # is a density; a fixed noise power meets only 1/N of the power.
    station_dbm = scenario.station_power_dbm
    if scenario.noise_total_dbm is not None:
        station_dbm -= 10 * math.log10(users)
    downlink_s = result_mbit * users / link_rate(1.0, gain, scenario.downlink_mhz, station_dbm, *noise)

    made = torch.where(hit, steps, saturation)
    factor = torch.where(hit, torch.ones_like(gain), torch.full_like(gain, scenario.cloud_time_factor))
    generation_s = curves.time_s(made) * factor
    detour_s = (upload_mbit + result_mbit) / _backhaul_share_mbit_s(scenario, hit)
    delays = DelayParts(uplink_s, torch.where(hit, torch.zeros_like(detour_s), detour_s), generation_s, downlink_s)

    delay_s, tv = delays.total_s, curves.tv(made)
    cost = scenario.delay_weight * delay_s + (1 - scenario.delay_weight) * tv
    late = torch.zeros_like(cost, dtype=torch.bool)
    if scenario.max_delay_s is not None:
        late = delay_s > scenario.max_delay_s
    amounts: Mapping[str, Tensor] = {}
    if scenario.objective:
        slot = observation.frame * scenario.slots_per_frame + observation.slot
        facts = Facts(hit.expand(cost.shape), delays, tv, late, upload_mbit, result_mbit, slot)
        further, amounts = further_cost(scenario, facts)
        cost = cost + further
    reward = -cost.mean(-1)
    if scenario.max_delay_s is not None:
        reward = reward - scenario.late_penalty * late.to(cost.dtype).mean(-1)
    useless = hit & (steps < curves.a1_steps)
    hit = hit.expand(cost.shape)
    return SlotOutcome(bandwidth, compute, hit, steps, useless, late, delays, tv, cost, reward, amounts=amounts)


def _backhaul_share_mbit_s(scenario: ProvisioningScenario, hit: Tensor) -> Tensor | float:
    """Rate of the backhaul for one user, a number or ``[..., 1, 1]``, Mbit/s."""
    if scenario.backhaul_shared_by == "users":
        return scenario.backhaul_mbit_s / (scenario.cells * scenario.users)
    misses = (~hit).sum((-2, -1), keepdim=True)
    return scenario.backhaul_mbit_s / misses.clamp_min(1)
