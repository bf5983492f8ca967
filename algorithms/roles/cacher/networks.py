# SPDX-License-Identifier: Apache-2.0
"""Values of caches: one output per cache, or sums over the models in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from edgegen.algorithms.nets.stacked import StackedMLP
from edgegen.algorithms.roles.cacher.state import FrameLayout
from edgegen.algorithms.rules.best_cache import best_fitting, cache_bits, cache_number
from edgegen.envs.core.errors import InputError

if TYPE_CHECKING:
    from edgegen.algorithms.roles.cacher.settings import CacherSettings

MOST_MODELS_IN_SUBSETS = 16
"""The last layer of :class:`SubsetValues` has 2^M outputs."""


class CachingNetwork(nn.Module, ABC):
    """Values of caches in a frame.

    Args:
        settings: The settings.
        layout: What lies where in a state.
        groups: Independent sets of weights G.
    """

    everything: bool = False
    """Whether caches that do not fit have values too, and are explored."""

    def __init__(self, settings: CacherSettings, layout: FrameLayout, groups: int) -> None:
        super().__init__()
        self.layout = layout
        self._make(groups, settings.cacher_hidden)

    @abstractmethod
    def _make(self, groups: int, width: int) -> None:
        """Make the networks, with two hidden layers of some width."""

    @classmethod
    def check(cls, settings: CacherSettings) -> None:
        """Check settings that name this network.

        Raises:
            ValueError: If others of them do not fit it.
        """

    @classmethod
    def check_models(cls, models: int) -> None:
        """Check a number of models.

        Raises:
            InputError: If they are too many.
        """

    @abstractmethod
    def forward(self, state: Tensor) -> Tensor:
        """Return values in states ``[G, rows, D]``, from which ``value_of`` and ``best`` tell those of caches."""

    @abstractmethod
    def value_of(self, values: Tensor, cache: Tensor) -> Tensor:
        """Value ``[G, rows]`` of caches ``[G, rows, M]``, bool, by what ``forward`` returned."""

    @abstractmethod
    def best(self, values: Tensor, relative_size: Tensor) -> Tensor:
        """The cache of the highest value ``[G, rows, M]``, bool.

        Args:
            values: What ``forward`` returned.
            relative_size: Sizes of the models over the storage ``[G, rows, M]``.
        """

    def fitted(self, state: Tensor, cache: Tensor, next_state: Tensor) -> tuple[Tensor, Tensor | None]:
        """What is fitted to a frame that is over: the value ``[G, rows]`` to be drawn to its target, and a loss beside.

        Args:
            state: States ``[G, rows, D]``.
            cache: Caches ``[G, rows, M]``, bool.
            next_state: States of the frame after, which hold the requests that came.
        """
        del next_state
        return self.value_of(self(state), cache), None


class SubsetValues(CachingNetwork):
    """One output per cache, numbered so that model m is in cache a if bit m of a is set ``[G, rows, 2^M]``.

    All 2^M count: the agent learns from the penalty what does not fit.
    """

    everything = True

    def _make(self, groups: int, width: int) -> None:
        self.net = StackedMLP(groups, [self.layout.size, width, width, 2**self.layout.models])

    @classmethod
    def check_models(cls, models: int) -> None:
        """See :meth:`CachingNetwork.check_models`."""
        if models > MOST_MODELS_IN_SUBSETS:
            raise InputError(
                f"caching_head is 'subsets', which has a value for each of 2^{models} sets of models, but at "
                f"most {MOST_MODELS_IN_SUBSETS} models are allowed with it; choose 'per_request'."
            )

    def forward(self, state: Tensor) -> Tensor:
        """See :meth:`CachingNetwork.forward`."""
        values: Tensor = self.net(state)
        return values

    def value_of(self, values: Tensor, cache: Tensor) -> Tensor:
        """See :meth:`CachingNetwork.value_of`."""
        return values.gather(-1, cache_number(cache)[..., None])[..., 0]

    def best(self, values: Tensor, relative_size: Tensor) -> Tensor:
        """See :meth:`CachingNetwork.best`."""
        return cache_bits(values.argmax(-1), self.layout.models)


class AdditiveValues(CachingNetwork):
    """V(s) + Σ_m ρ_m·A_m(s), as V and all A ``[G, rows, 1 + M]``, from networks that look at the models one by one.

    Their size does not grow with 2^M, and what is learned of one model is known of all.
    """

    def value_of(self, values: Tensor, cache: Tensor) -> Tensor:
        """See :meth:`CachingNetwork.value_of`."""
        return values[..., 0] + (values[..., 1:] * cache).sum(-1)

    def best(self, values: Tensor, relative_size: Tensor) -> Tensor:
        """See :meth:`CachingNetwork.best`; only caches that fit count."""
        return best_fitting(values[..., 1:], relative_size)

    @property
    def inputs(self) -> int:
        """Inputs that belong to one model: its features and those of the frame."""
        return self.layout.model_features + self.layout.frame_features

    def by_model(self, net: nn.Module, state: Tensor) -> Tensor:
        """Outputs of a network for every model ``[G, rows, M, outputs]``."""
        groups, rows, _ = state.shape
        models, frame = self.layout.split(state)
        each = torch.cat([models, frame[:, :, None].expand(-1, -1, self.layout.models, -1)], -1)
        output: Tensor = net(each.reshape(groups, rows * self.layout.models, -1))
        return output.view(groups, rows, self.layout.models, -1)


class ModelValues(AdditiveValues):
    """A from one network; V has a network of its own: as long as it lags, A would make up for it."""

    def _make(self, groups: int, width: int) -> None:
        self.net = StackedMLP(groups, [self.inputs, width, width, 1])
        self.base = StackedMLP(groups, [self.layout.size, width, width, 1])

    def forward(self, state: Tensor) -> Tensor:
        """See :meth:`CachingNetwork.forward`."""
        return torch.cat([self.base(state), self.by_model(self.net, state)[..., 0]], -1)


class RequestValues(AdditiveValues):
    """Σ_m p_m(s)·(b_m(s) + ρ_m·w_m(s)) with the expected shares of requests p, so V = Σ_m p_m·b_m and A_m = p_m·w_m.

    Chance sends requests to other models than expected; b and w are fitted to rewards with the shares that came in the
    place of p, and so are spared that noise.
    """

    def _make(self, groups: int, width: int) -> None:
        self.worth = StackedMLP(groups, [self.inputs, width, width, 2])
        self.belief = StackedMLP(groups, [self.inputs, width, width, 1])

    @classmethod
    def check(cls, settings: CacherSettings) -> None:
        """See :meth:`CachingNetwork.check`."""
        if not settings.see_frequency:
            raise ValueError(
                f"caching_head '{settings.caching_head}' needs see_frequency: expectations are learned from the shares"
            )

    def forward(self, state: Tensor) -> Tensor:
        """See :meth:`CachingNetwork.forward`."""
        belief, worth = self.log_belief(state).exp(), self.worth_of(state)
        return torch.cat([(belief * worth[..., 0]).sum(-1, keepdim=True), belief * worth[..., 1]], -1)

    def log_belief(self, state: Tensor) -> Tensor:
        """Logarithms of the shares of requests that are expected for the models ``[G, rows, M]``."""
        return self.by_model(self.belief, state)[..., 0].log_softmax(-1)

    def worth_of(self, state: Tensor) -> Tensor:
        """Value of a frame in which all requests were for a model, and what caching it adds ``[G, rows, M, 2]``."""
        return self.by_model(self.worth, state)

    def fitted(self, state: Tensor, cache: Tensor, next_state: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`CachingNetwork.fitted`."""
        asked = self.layout.frequency(next_state)
        worth = self.worth_of(state)
        value = (asked * (worth[..., 0] + worth[..., 1] * cache)).sum(-1)
        return value, cross_entropy(self.log_belief(state), asked)


HEADS: dict[str, type[CachingNetwork]] = {
    "subsets": SubsetValues,
    "per_model": ModelValues,
    "per_request": RequestValues,
}
"""Networks by the name that the setting ``caching_head`` uses."""


def cross_entropy(log_belief: Tensor, share: Tensor) -> Tensor:
    """−mean Σ_m share · log belief: least where the belief is the expected share.

    Args:
        log_belief: Logarithms of expected shares ``[G, rows, M]``.
        share: Shares that came ``[G, rows, M]``.
    """
    return -(share * log_belief).sum(-1).mean(-1).sum()
