"""State vectors for learners: what a caching agent and an allocating agent see, as numbers of order one.

Which quantities make up the states is our choice; every part can be switched. Scales depend on the scenario alone, so
that a trained network means the same wherever it is loaded.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import one_hot

from edgegen.envs.provisioning.curves import CONSTANTS
from edgegen.envs.provisioning.draws import MBIT_PER_MB, draw_requests
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import AllocatorView, CacherView

_SCALE_SEED = 2**63  # of the episodes that tell the usual gains; beyond every seed of training and evaluation
_SCALE_EPISODES = range(8)


class StateSettings(BaseModel):
    """What the states hold.

    Attributes:
        skewness: The caching agent sees the state of the skewness chain.
        previous_cache: The caching agent sees what was cached in the frame before.
        frequency: The caching agent sees the request shares of the frame before.
        history_decay: If given, the caching agent also sees the mean request shares of all frames so far, in which each
            frame has this fraction of the next one's weight: one frame's requests tell little of the probabilities.
        model_sizes: The caching agent sees the size of every model, relative to the storage: needed where sizes are
            not always the same.
        frame_number: The caching agent sees how much of the episode is over.
        request: How the allocating agent sees the requested models: ``one_hot``, or ``index`` divided by M.
        cache: The allocating agent sees what is cached.
        curves: The allocating agent sees the curve of each requested model: needed where curves are not always the
            same, and spares it learning them by heart.
        order: Order in which the allocating agent sees its users: as they are (``users``), or ``hits_by_gain``: hits
            first, and by falling gain, so that what differs in nothing but names looks the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    skewness: bool = True
    previous_cache: bool = True
    frequency: bool = True
    history_decay: Annotated[float, Field(ge=0, le=1)] | None = None
    model_sizes: bool = False
    frame_number: bool = False
    request: Literal["one_hot", "index"] = "one_hot"
    cache: bool = True
    curves: bool = False
    order: Literal["users", "hits_by_gain"] = "users"

    @property
    def per_model(self) -> int:
        """Values per model in the caching agent's state."""
        return self.previous_cache + self.frequency + (self.history_decay is not None) + self.model_sizes

    @property
    def information(self) -> str:
        """What is known by these states, for honest comparisons."""
        known = {
            "skewness state": self.skewness,
            "requests of the frame before": self.frequency and self.history_decay is None,
            "requests of all frames so far": self.history_decay is not None,
            "model sizes": self.model_sizes,
            "frame number": self.frame_number,
            "curves": self.curves,
        }
        return ", ".join(name for name, used in known.items() if used) + "; channels and requests of the slot"


class FrameState:
    """Builds the state of the caching agents.

    Parts, in this order, each if switched on: skewness one-hot (J), previous cache (M), request shares of the frame
    before times M (M), those of all frames so far times M (M), model sizes over storage (M), frame over T (1). With
    none of them the state is a constant 1.

    Args:
        scenario: The world.
        settings: What the state holds.
    """

    def __init__(self, scenario: ProvisioningScenario, settings: StateSettings | None = None) -> None:
        self.scenario = scenario
        self.settings = settings or StateSettings()

    @property
    def size(self) -> int:
        """Length of the state."""
        chosen, models = self.settings, self.scenario.models
        parts = chosen.skewness * len(self.scenario.skewness.states) + chosen.frame_number
        return max(parts + models * chosen.per_model, 1)

    def __call__(self, observation: CacherView) -> Tensor:
        """Return the states ``[E, C, size]``."""
        chosen, frequency = self.settings, observation.frequency
        parts = []
        if chosen.skewness:
            states = len(self.scenario.skewness.states)
            parts.append(one_hot(observation.skewness_state, states).to(frequency.dtype))
        if chosen.previous_cache:
            parts.append(observation.previous_cache.to(frequency.dtype))
        if chosen.frequency:
            parts.append(frequency * self.scenario.models)  # 1 where a model gets its equal share
        if chosen.history_decay is not None:
            parts.append(_decayed_mean(observation.history, chosen.history_decay) * self.scenario.models)
        if chosen.model_sizes:
            parts.append((observation.size_gb / observation.storage_gb[..., None]).to(frequency.dtype))
        if chosen.frame_number or not parts:
            played = observation.frame / self.scenario.frames if chosen.frame_number else 1.0
            parts.append(torch.full_like(frequency[..., :1], played))
        return torch.cat(parts, dim=-1)


def _decayed_mean(history: Tensor, decay: float) -> Tensor:
    """Mean over frames ``[E, C, M]`` of ``[E, F, C, M]``, each frame ``decay`` times the next one's weight."""
    frames = history.shape[1]
    if not frames:
        return history.sum(1)
    weight = decay ** torch.arange(frames - 1, -1, -1, dtype=history.dtype, device=history.device)
    return torch.einsum("efcm,f->ecm", history, weight / weight.sum())


class SlotState:
    """Builds the state of the allocating agents.

    Parts, in this order: log10 of the gains, standardised (N); requests as one-hot (N·M) or index over M (N); upload
    and result sizes over 10 MB (N each); hits (N); the cache (M), if switched on; the curves of the requested models
    (6N), if switched on, each constant over its largest value.

    Args:
        scenario: The world.
        settings: What the state holds.
    """

    def __init__(self, scenario: ProvisioningScenario, settings: StateSettings | None = None) -> None:
        self.scenario = scenario
        self.settings = settings or StateSettings()
        gain = draw_requests(scenario, _SCALE_SEED, _SCALE_EPISODES, dtype=torch.float64).gain.log10()
        self._gain_mean, spread = float(gain.mean()), float(gain.std()) if gain.numel() > 1 else 0.0
        self._gain_spread = spread if spread > 1e-6 else 1.0  # one place and no fading: nothing to divide by
        # A constant that is always 0 needs no scale.
        self._curve_scale = [largest or 1.0 for largest in scenario.largest_curve_constants]

    @property
    def size(self) -> int:
        """Length of the state."""
        chosen, models = self.settings, self.scenario.models
        per_user = 4 + (models if chosen.request == "one_hot" else 1) + len(CONSTANTS) * chosen.curves
        return per_user * self.scenario.users + models * chosen.cache

    def order(self, observation: AllocatorView) -> Tensor | None:
        """Return the user seen at each place ``[E, C, N]``, or None if users are seen as they are."""
        if self.settings.order == "users":
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
        if chosen.request == "one_hot":
            request = one_hot(model, self.scenario.models).to(gain.dtype).flatten(-2)
        else:
            request = model.to(gain.dtype) / self.scenario.models
        parts = [
            (placed(gain).log10() - self._gain_mean) / self._gain_spread,
            request,
            placed(observation.upload_mbit) / (10 * MBIT_PER_MB),
            placed(observation.result_mbit) / (10 * MBIT_PER_MB),
            placed(observation.hit).to(gain.dtype),
        ]
        if chosen.cache:
            parts.append(observation.cache.to(gain.dtype))
        if chosen.curves:
            values = zip(observation.curves.values(), self._curve_scale, strict=True)
            parts += [placed(constant.expand(gain.shape)) / scale for constant, scale in values]
        return torch.cat(parts, dim=-1)


def as_users(values: Tensor, order: Tensor | None) -> Tensor:
    """Return values ``[E, C, N]`` that belong to the places of an order in the order of the users."""
    return values if order is None else torch.empty_like(values).scatter_(-1, order, values)
