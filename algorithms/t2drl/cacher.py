"""The caching network of T2DRL."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgegen.algorithms.nets.stacked import StackedMLP
from edgegen.algorithms.rules.best_cache import best_fitting, cache_bits, cache_number
from edgegen.algorithms.t2drl.spec import T2DRLSpec


class CachingNetwork(nn.Module):
    """Values of caches.

    ``caching_head: subsets``: one output per cache, numbered so that model m is in cache a if bit m of a is set.
    ``per_model``: V(s) + Σ_m ρ_m·A_m(s) with A from one network that looks at the models one by one; its size does not
    grow with 2^M, and what it learns of one model it knows of all. V has a network of its own: as long as it lags, A
    would make up for it. ``per_request``: Σ_m p_m(s)·(b_m(s) + ρ_m·w_m(s)) with the expected shares of requests p, so
    V = Σ_m p_m·b_m and A_m = p_m·w_m. Chance sends requests to other models than expected; b and w are fitted to
    rewards with the shares that came in the place of p, and so are spared that noise.
    """

    def __init__(self, spec: T2DRLSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.settings.cacher_hidden
        self.subsets = spec.settings.caching_head == "subsets"
        self.per_request = spec.settings.caching_head == "per_request"
        if self.subsets:
            self.net = StackedMLP(spec.groups, [spec.frame_state_size, width, width, 2**spec.models])
        elif self.per_request:
            inputs = spec.model_features + spec.frame_features
            self.worth = StackedMLP(spec.groups, [inputs, width, width, 2])
            self.belief = StackedMLP(spec.groups, [inputs, width, width, 1])
        else:
            self.net = StackedMLP(spec.groups, [spec.model_features + spec.frame_features, width, width, 1])
            self.base = StackedMLP(spec.groups, [spec.frame_state_size, width, width, 1])

    def forward(self, state: Tensor) -> Tensor:
        """Return values ``[G, rows, 2^M]``, or V and all A ``[G, rows, 1 + M]`` of states ``[G, rows, D]``."""
        if self.subsets:
            values: Tensor = self.net(state)
            return values
        if self.per_request:
            belief, worth = self.log_belief(state).exp(), self.worth_of(state)
            return torch.cat([(belief * worth[..., 0]).sum(-1, keepdim=True), belief * worth[..., 1]], -1)
        groups, rows, _ = state.shape
        added = self.net(self._each(state)).view(groups, rows, -1)
        return torch.cat([self.base(state), added], -1)

    def _each(self, state: Tensor) -> Tensor:
        groups, rows, _ = state.shape
        models, frame = self.spec.by_model(state)
        each = torch.cat([models, frame[:, :, None].expand(-1, -1, self.spec.models, -1)], -1)
        return each.reshape(groups, rows * self.spec.models, -1)

    def log_belief(self, state: Tensor) -> Tensor:
        """Logarithms of the shares of requests that are expected for the models ``[G, rows, M]``."""
        groups, rows, _ = state.shape
        logits: Tensor = self.belief(self._each(state)).view(groups, rows, -1)
        return logits.log_softmax(-1)

    def worth_of(self, state: Tensor) -> Tensor:
        """Value of a frame in which all requests were for a model, and what caching it adds ``[G, rows, M, 2]``."""
        groups, rows, _ = state.shape
        worth: Tensor = self.worth(self._each(state)).view(groups, rows, self.spec.models, 2)
        return worth

    def value_of(self, values: Tensor, cache: Tensor) -> Tensor:
        """Value ``[G, rows]`` of caches ``[G, rows, M]``, bool, by what ``forward`` returned."""
        if self.subsets:
            return values.gather(-1, cache_number(cache)[..., None])[..., 0]
        return values[..., 0] + (values[..., 1:] * cache).sum(-1)

    def best(self, values: Tensor, relative_size: Tensor) -> Tensor:
        """The cache of the highest value ``[G, rows, M]``, bool.

        All 2^M count for ``subsets``, whose agent learns from the penalty what does not fit; only those that fit for
        ``per_model``.

        Args:
            values: What ``forward`` returned.
            relative_size: Sizes of the models over the storage ``[G, rows, M]``.
        """
        if self.subsets:
            return cache_bits(values.argmax(-1), self.spec.models)
        return best_fitting(values[..., 1:], relative_size)
