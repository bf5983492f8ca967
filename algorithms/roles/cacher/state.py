# SPDX-License-Identifier: Apache-2.0
"""States of caching agents, as numbers of order one, and what lies where in them.

Which quantities make up a state is our choice; every part can be switched. Scales depend on the scenario alone, so that
a trained network means the same wherever it is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from edgegen.envs.core.fields import Frozen
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import CacherView

if TYPE_CHECKING:
    from edgegen.algorithms.roles.cacher.settings import CacherSettings


class FrameLayout(Frozen):
    """What lies where in the states of :class:`FrameState`, which networks are given to tell models apart.

    Attributes:
        models: Models M.
        skewness: States of the skewness chain in the state; 0 if it is not seen.
        previous_cache: Whether the cache before is seen.
        per_model: Values per model.
        size: Length of a state.
    """

    models: int
    skewness: int
    previous_cache: bool
    per_model: int
    size: int

    @property
    def model_features(self) -> int:
        """Features of one model; its number is one of them, as one-hot."""
        return self.models + self.per_model

    @property
    def frame_features(self) -> int:
        """Features of the whole frame."""
        return self.size - self.models * self.per_model

    def frequency(self, state: Tensor) -> Tensor:
        """Request shares of the frame before in a state ``[..., D]``: ``[..., M]``."""
        begin = self.skewness + self.models * self.previous_cache
        return state[..., begin : begin + self.models] / self.models

    def split(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Split a state ``[..., D]`` by :class:`FrameState`'s order of parts.

        Returns:
            Features of the models ``[..., M, model_features]`` and of the frame ``[..., frame_features]``.
        """
        sizes = [self.skewness, *[self.models] * self.per_model, self.frame_features - self.skewness]
        before, *columns, after = torch.split(state, sizes, dim=-1)
        number = torch.eye(self.models, dtype=state.dtype, device=state.device)
        number = number.expand(*state.shape[:-1], -1, -1)
        models = torch.cat([torch.stack(columns, -1), number] if columns else [number], -1)
        return models, torch.cat([before, after], -1)


class FrameState:
    """Builds the state of the caching agents.

    Parts, in this order, each if switched on: skewness one-hot (J), previous cache (M), request shares of the frame
    before times M (M), those of all frames so far times M (M), model sizes over storage (M), frame over T (1). With
    none of them the state is a constant 1.

    Args:
        scenario: The world.
        settings: What the state holds.
    """

    def __init__(self, scenario: ProvisioningScenario, settings: CacherSettings) -> None:
        self.scenario = scenario
        self.settings = settings

    @property
    def size(self) -> int:
        """Length of the state."""
        chosen, models = self.settings, self.scenario.models
        parts = chosen.see_skewness * len(self.scenario.skewness.states) + chosen.see_frame_number
        return max(parts + models * chosen.per_model, 1)

    def __call__(self, observation: CacherView) -> Tensor:
        """Return the states ``[E, C, size]``."""
        chosen, frequency = self.settings, observation.frequency
        parts = []
        if chosen.see_skewness:
            states = len(self.scenario.skewness.states)
            parts.append(one_hot(observation.skewness_state, states).to(frequency.dtype))
        if chosen.see_previous_cache:
            parts.append(observation.previous_cache.to(frequency.dtype))
        if chosen.see_frequency:
            parts.append(frequency * self.scenario.models)  # 1 where a model gets its equal share
        if chosen.history_decay is not None:
            parts.append(_decayed_mean(observation.history, chosen.history_decay) * self.scenario.models)
        if chosen.see_model_sizes:
            parts.append((observation.size_gb / observation.storage_gb[..., None]).to(frequency.dtype))
        if chosen.see_frame_number or not parts:
            played = observation.frame / self.scenario.frames if chosen.see_frame_number else 1.0
            parts.append(torch.full_like(frequency[..., :1], played))
        return torch.cat(parts, dim=-1)


def _decayed_mean(history: Tensor, decay: float) -> Tensor:
    """Mean over frames ``[E, C, M]`` of ``[E, F, C, M]``, each frame ``decay`` times the next one's weight."""
    frames = history.shape[1]
    if not frames:
        return history.sum(1)
    weight = decay ** torch.arange(frames - 1, -1, -1, dtype=history.dtype, device=history.device)
    return torch.einsum("efcm,f->ecm", history, weight / weight.sum())
