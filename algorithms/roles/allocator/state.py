# SPDX-License-Identifier: Apache-2.0
"""States of allocating agents, as numbers of order one, what lies where in them, and what raw actions mean.

Which quantities make up a state is our choice; every part can be switched. Scales depend on the scenario alone, so that
a trained network means the same wherever it is loaded.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from edgegen.algorithms.roles.allocator.settings import AllocatorSettings
from edgegen.envs.core.fields import Frozen
from edgegen.envs.provisioning.amenders import amount_from_raw, raw_from_shares, shares_from_raw
from edgegen.envs.provisioning.curves import CONSTANTS
from edgegen.envs.provisioning.draws import MBIT_PER_MB, draw_requests
from edgegen.envs.provisioning.parts import AllocationRule
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import AllocatorView

_SCALE_SEED = 2**63  # of the episodes that tell the usual gains; beyond every seed of training and evaluation
_SCALE_EPISODES = range(8)


class SlotLayout(Frozen):
    """What lies where in the states of :class:`SlotState`, and what raw actions mean: all that networks are given.

    Attributes:
        users: Users N of a cell.
        models: Models M.
        one_hot: Whether requests are one-hot.
        cache: Whether the cache is seen.
        curves: Whether the curves of the requested models are seen.
        size: Length of a state.
        allocation: How raw actions become shares.
    """

    users: int
    models: int
    one_hot: bool
    cache: bool
    curves: bool
    size: int
    allocation: AllocationRule

    @property
    def actions(self) -> int:
        """Length of a raw action, 2N: bandwidth of all users, then computing of all users."""
        return 2 * self.users

    @property
    def user_features(self) -> int:
        """Features of one user."""
        return 4 + (self.models if self.one_hot else 1) + len(CONSTANTS) * self.curves

    @property
    def cell_features(self) -> int:
        """Features of the cell."""
        return self.models * self.cache

    def split(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Split a state ``[..., D]`` by :class:`SlotState`'s order of parts.

        Returns:
            Features of the users ``[..., N, user_features]`` with the hit flag first, and of the cell
            ``[..., cell_features]``.
        """
        users, shape = self.users, state.shape[:-1]
        request = self.models if self.one_hot else 1
        sizes = [users, users * request, users, users, users, self.cell_features]
        sizes += [users] * (len(CONSTANTS) * self.curves)
        gain, model, upload, result, hit, cell, *curves = torch.split(state, sizes, dim=-1)
        columns = [hit, gain, upload, result, *curves]
        return torch.cat([torch.stack(columns, -1), model.reshape(*shape, users, request)], -1), cell

    def hits(self, state: Tensor) -> Tensor:
        """Hit flags ``[..., N]`` in a state, bool."""
        return self.split(state)[0][..., 0] > 0.5

    def parts(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Bandwidth and computing ``[..., N]`` of raw actions ``[..., 2N]``."""
        return action[..., : self.users], action[..., self.users :]

    def shares(self, bandwidth: Tensor, compute: Tensor, hit: Tensor) -> tuple[Tensor, Tensor]:
        """Shares that both parts of raw actions mean for some hits ``[..., N]``."""
        return shares_from_raw(self.allocation, bandwidth, compute, hit)

    def options(self, action: Tensor, hit: Tensor) -> Tensor:
        """Actions in which only the k hits with the largest computing shares get any, k = 1..N: ``[G, N, rows, 2N]``.

        Those who had less than half of the largest share get the mean of the others: more can be served than before.

        Args:
            action: Raw action ``[G, rows, 2N]``.
            hit: Whether a user's model is cached ``[G, rows, N]``.
        """
        rule, users = self.allocation, self.users
        bandwidth, compute = self.parts(action)
        amount = amount_from_raw(rule, compute) * hit
        rank = amount.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
        large = (amount >= amount.amax(-1, keepdim=True) / 2) & hit
        usual = (amount * large).sum(-1, keepdim=True) / large.sum(-1, keepdim=True).clamp_min(1)
        amount = torch.where(large, amount, usual)
        served = torch.arange(1, users + 1, device=rank.device)[:, None, None] > rank[:, None]
        compute = raw_from_shares(rule, torch.where(served, amount[:, None], torch.zeros_like(amount[:, None])))
        return torch.cat([bandwidth[:, None].expand_as(compute), compute], -1)


def largest_sizes_mbit(scenario: ProvisioningScenario) -> tuple[float, float]:
    """Largest upload and result of a world, Mbit; 1 where nothing is sent, which needs no scale."""
    return (scenario.upload_mb.high * MBIT_PER_MB or 1.0, scenario.result_mb.high * MBIT_PER_MB or 1.0)


class SlotState:
    """Builds the state of the allocating agents.

    Parts, in this order: log10 of the gains, standardised (N); requests as one-hot (N·M) or index over M (N); upload
    and result sizes over the largest of each (N each); hits (N); the cache (M), if switched on; the curves of the
    requested models (6N), if switched on, each constant over its largest value.

    Args:
        scenario: The world.
        settings: What the state holds.
        sizes_mbit: Upload and result that are 1; the largest of the world if not given.
    """

    def __init__(
        self,
        scenario: ProvisioningScenario,
        settings: AllocatorSettings,
        sizes_mbit: tuple[float, float] | None = None,
    ) -> None:
        self.scenario = scenario
        self.settings = settings
        self._upload_mbit, self._result_mbit = sizes_mbit or largest_sizes_mbit(scenario)
        gain = draw_requests(scenario, _SCALE_SEED, _SCALE_EPISODES, dtype=torch.float64).gain.log10()
        self._gain_mean, spread = float(gain.mean()), float(gain.std()) if gain.numel() > 1 else 0.0
        self._gain_spread = spread if spread > 1e-6 else 1.0  # one place and no fading: nothing to divide by
        # A constant that is always 0 needs no scale.
        self._curve_scale = [largest or 1.0 for largest in scenario.largest_curve_constants]

    @property
    def size(self) -> int:
        """Length of the state."""
        chosen, models = self.settings, self.scenario.models
        per_user = 4 + (models if chosen.one_hot else 1) + len(CONSTANTS) * chosen.see_curves
        return per_user * self.scenario.users + models * chosen.see_cache

    def order(self, observation: AllocatorView) -> Tensor | None:
        """Return the user seen at each place ``[E, C, N]``, or None if users are seen as they are."""
        if self.settings.user_order == "users":
            return None
        log_gain = observation.gain.log10()
        # Gains are far below 10^9: every hit comes before every miss.
        return torch.argsort(log_gain + observation.hit * 1e3, dim=-1, descending=True, stable=True)

    def __call__(self, observation: AllocatorView, order: Tensor | None = None) -> Tensor:
        """Return the states ``[E, C, size]``.

        Args:
            observation: The slot.
            order: What ``order`` returned for it.
        """

        def placed(values: Tensor) -> Tensor:
            return values if order is None else values.gather(-1, order)

        chosen, gain = self.settings, observation.gain
        model = placed(observation.model)
        if chosen.one_hot:
            request = one_hot(model, self.scenario.models).to(gain.dtype).flatten(-2)
        else:
            request = model.to(gain.dtype) / self.scenario.models
        parts = [
            (placed(gain).log10() - self._gain_mean) / self._gain_spread,
            request,
            placed(observation.upload_mbit) / self._upload_mbit,
            placed(observation.result_mbit) / self._result_mbit,
            placed(observation.hit).to(gain.dtype),
        ]
        if chosen.see_cache:
            parts.append(observation.cache.to(gain.dtype))
        if chosen.see_curves:
            values = zip(observation.curves.values(), self._curve_scale, strict=True)
            parts += [placed(constant.expand(gain.shape)) / scale for constant, scale in values]
        return torch.cat(parts, dim=-1)


def as_users(values: Tensor, order: Tensor | None) -> Tensor:
    """Return values ``[E, C, N]`` that belong to the places of an order in the order of the users."""
    return values if order is None else torch.empty_like(values).scatter_(-1, order, values)
