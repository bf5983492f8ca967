"""What the networks of T2DRL must know of world and settings, and how they tell users and models apart."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from edgegen.algorithms.t2drl.settings import T2DRLSettings
from edgegen.algorithms.t2drl.state import FrameState, SlotState
from edgegen.envs.core.errors import InputError
from edgegen.envs.provisioning.curves import CONSTANTS
from edgegen.envs.provisioning.parts import AllocationRule
from edgegen.envs.provisioning.scenario import ProvisioningScenario

Count = Annotated[int, Field(ge=1)]
MOST_MODELS_IN_SUBSETS = 16
"""The cacher's last layer has 2^M outputs."""


class T2DRLSpec(BaseModel):
    """All that is needed to rebuild the networks; saved as JSON beside their weights.

    Attributes:
        cells: Cells C.
        users: Users N of a cell.
        models: Models M.
        skewness_states: States J of the skewness chain.
        slots_per_frame: Slots K of a frame.
        slot_state_size: Length of the allocator's state.
        frame_state_size: Length of the cacher's state.
        allocation: How raw actions become shares.
        settings: The settings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cells: Count
    users: Count
    models: Count
    skewness_states: Count
    slots_per_frame: Count
    slot_state_size: Count
    frame_state_size: Count
    allocation: AllocationRule
    settings: T2DRLSettings

    @classmethod
    def of(cls, scenario: ProvisioningScenario, settings: T2DRLSettings) -> T2DRLSpec:
        """Describe the networks that ``settings`` ask for in ``scenario``.

        Raises:
            InputError: If there would be a value for each of too many sets of models.
        """
        if settings.caching_head == "subsets" and scenario.models > MOST_MODELS_IN_SUBSETS:
            raise InputError(
                f"caching_head is 'subsets', which has a value for each of 2^{scenario.models} sets of models, but at "
                f"most {MOST_MODELS_IN_SUBSETS} models are allowed with it; choose 'per_request'."
            )
        return cls(
            cells=scenario.cells,
            users=scenario.users,
            models=scenario.models,
            skewness_states=len(scenario.skewness.states),
            slots_per_frame=scenario.slots_per_frame,
            slot_state_size=SlotState(scenario, settings.state).size,
            frame_state_size=FrameState(scenario, settings.state).size,
            allocation=scenario.allocation_amender,
            settings=settings,
        )

    @property
    def groups(self) -> int:
        """Independent sets of weights G: one per cell, or one for all."""
        return self.cells if self.settings.sharing == "none" else 1

    def grouped(self, x: Tensor) -> Tensor:
        """Bring ``[E, C, ...]`` into the order of the stacked networks, ``[G, rows, ...]``."""
        if self.groups == 1:
            return x.reshape(1, -1, *x.shape[2:])
        return x.transpose(0, 1)

    def ungrouped(self, x: Tensor) -> Tensor:
        """Undo ``grouped``: ``[E, C, ...]``."""
        if self.groups == 1:
            return x.reshape(-1, self.cells, *x.shape[2:])
        return x.transpose(0, 1)

    @property
    def user_features(self) -> int:
        """Features of one user in the allocator's state."""
        request = self.models if self.settings.request_code == "one_hot" else 1
        return 4 + request + len(CONSTANTS) * self.settings.see_curves

    @property
    def cell_features(self) -> int:
        """Features of the cell in the allocator's state."""
        return self.models * self.settings.see_cache

    def by_user(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Split an allocator's state ``[..., D]`` by :class:`SlotState`'s order of parts.

        Returns:
            Features of the users ``[..., N, user_features]`` with the hit flag first, and of the cell
            ``[..., cell_features]``.
        """
        users, shape = self.users, state.shape[:-1]
        request = self.models if self.settings.request_code == "one_hot" else 1
        sizes = [users, users * request, users, users, users, self.cell_features]
        sizes += [users] * (len(CONSTANTS) * self.settings.see_curves)
        gain, model, upload, result, hit, cell, *curves = torch.split(state, sizes, dim=-1)
        columns = [hit, gain, upload, result, *curves]
        return torch.cat([torch.stack(columns, -1), model.reshape(*shape, users, request)], -1), cell

    def hits(self, state: Tensor) -> Tensor:
        """Hit flags ``[..., N]`` in an allocator's state, bool."""
        return self.by_user(state)[0][..., 0] > 0.5

    @property
    def model_features(self) -> int:
        """Features of one model in the cacher's state; its number is one of them, as one-hot."""
        return self.models + self.settings.state.per_model

    @property
    def frame_features(self) -> int:
        """Features of the whole frame in the cacher's state."""
        return self.frame_state_size - self.models * self.settings.state.per_model

    def frequency(self, state: Tensor) -> Tensor:
        """Request shares of the frame before in a cacher's state ``[..., D]``: ``[..., M]``."""
        begin = self.skewness_states * self.settings.see_skewness + self.models * self.settings.see_previous_cache
        return state[..., begin : begin + self.models] / self.models

    def by_model(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Split a cacher's state ``[..., D]`` by :class:`FrameState`'s order of parts.

        Returns:
            Features of the models ``[..., M, model_features]`` and of the frame ``[..., frame_features]``.
        """
        chosen = self.settings
        skewness = self.skewness_states * chosen.see_skewness
        sizes = [skewness, *[self.models] * chosen.state.per_model, self.frame_features - skewness]
        before, *columns, after = torch.split(state, sizes, dim=-1)
        number = torch.eye(self.models, dtype=state.dtype, device=state.device)
        number = number.expand(*state.shape[:-1], -1, -1)
        return torch.cat([torch.stack(columns, -1), number] if columns else [number], -1), torch.cat(
            [before, after], -1
        )
