# SPDX-License-Identifier: Apache-2.0
"""What the networks of routers must know of world and settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class RouterSpec(BaseModel):
    """All that is needed to rebuild a deciding network and its view of the world; saved as JSON beside its weights.

    Attributes:
        servers: Servers B, the number of actions.
        slots: Slots the ``slot`` memory distinguishes.
        tasks: Task indices N the memory distinguishes.
        size_scale_mbit: Size that is 1 after normalisation.
        workload_scale_gcycles: Workload that is 1 after normalisation.
        slot_s: Slot length, s.
        actor: The kind of network; policies saved before there was a choice are of the first.
        epsilon: Share of random actions of actor ``q``.
        network: Whether servers are scored by outputs of their own or all by the same weights.
        arrivals: What network ``set`` expects to come. ``seen``: what own arrivals so far let expect. ``frozen``: the
            mean arrivals of the training scenario; policies saved before there was a choice are so.
        work_profile_gcycles: Work of the n-th task of a server and slot that the training scenario brings on average
            ``[N]``; of ``frozen`` arrivals.
        start_temperature_s: Delay by which a server's probability falls by e before training; of ``frozen`` arrivals.
        start_temperature: The same in units of what the mean task takes on an average server; of ``seen`` arrivals.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    servers: Annotated[int, Field(ge=1)]
    slots: Annotated[int, Field(ge=1)]
    tasks: Annotated[int, Field(ge=1)]
    size_scale_mbit: Annotated[float, Field(gt=0)]
    workload_scale_gcycles: Annotated[float, Field(gt=0)]
    slot_s: Annotated[float, Field(gt=0)]
    sharing: Literal["none", "full"]
    hidden: Annotated[int, Field(ge=1)]
    denoising_steps: Annotated[int, Field(ge=1)]
    beta_min: Annotated[float, Field(gt=0)]
    beta_max: Annotated[float, Field(gt=0)]
    epsilon_output: Literal["softmax", "tanh", "linear"]
    memory: Literal["slot", "task", "gaussian", "none"]
    normalise: bool
    in_slot_load: Literal["none", "own"]
    actor: Literal["diffusion", "mlp", "q"] = "diffusion"
    epsilon: Annotated[float, Field(ge=0, le=1)] = 0.01
    network: Literal["mlp", "set"] = "mlp"
    arrivals: Literal["frozen", "seen"] = "frozen"
    work_profile_gcycles: tuple[Annotated[float, Field(ge=0)], ...] = ()
    start_temperature_s: Annotated[float, Field(gt=0)] = 1.0
    start_temperature: Annotated[float, Field(gt=0)] = 1.0

    @property
    def shared(self) -> bool:
        """Whether all servers have the same weights."""
        return self.sharing == "full"

    @property
    def sequential(self) -> bool:
        """Whether a server's own placements earlier in the slot are part of its state."""
        return self.in_slot_load == "own"

    @property
    def groups(self) -> int:
        """Independent sets of weights G: one per server, or one for all."""
        return 1 if self.shared else self.servers

    def grouped(self, x: Tensor) -> Tensor:
        """Bring ``[E, B, n, F]`` into the order of the stacked networks, ``[G, rows, F]``."""
        if self.shared:
            return x.flatten(0, 2)[None]
        return x.transpose(0, 1).flatten(1, 2)

    def ungrouped(self, x: Tensor, copies: int, width: int) -> Tensor:
        """Undo ``grouped``."""
        if self.shared:
            return x.reshape(copies, self.servers, width, x.shape[-1])
        return x.reshape(self.servers, copies, width, x.shape[-1]).transpose(0, 1)
