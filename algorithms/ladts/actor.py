"""The latent action diffusion network: what a server sees, and the chain that turns it into a distribution."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from edgegen.algorithms.ladts.set_view import COMMON_FEATURES, MEMBER_FEATURES
from edgegen.algorithms.ladts.settings import LADTSSettings
from edgegen.algorithms.nets.diffusion import reverse_chain, step_embedding, vp_schedule
from edgegen.algorithms.nets.stacked import StackedLinear, StackedMLP
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.view import RouterView

EMBEDDING = 16
"""Width of the step embedding (LAD-TS spec §4.2)."""


class ActorSpec(BaseModel):
    """All that is needed to rebuild an actor and its view of the world; saved as JSON beside its weights.

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
        work_profile_gcycles: Work of the n-th task of a server and slot that the training scenario brings on average
            ``[N]``; of network ``set``.
        start_temperature_s: Delay by which a server's probability falls by e before training; of network ``set``.
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
    work_profile_gcycles: tuple[Annotated[float, Field(ge=0)], ...] = ()
    start_temperature_s: Annotated[float, Field(gt=0)] = 1.0

    @classmethod
    def of(cls, scenario: OffloadingScenario, settings: LADTSSettings) -> ActorSpec:
        """Describe the actor that ``settings`` ask for in ``scenario``."""
        of_a_set: dict[str, Any] = {
            "work_profile_gcycles": tuple(scenario.work_by_index_gcycles.tolist()),
            "start_temperature_s": settings.initial_temperature / settings.reward_scale,
        }
        shared = settings.model_dump(include=set(cls.model_fields) & set(LADTSSettings.model_fields))
        return cls(
            servers=max(settings.train_servers, default=scenario.servers),
            slots=scenario.slots + 1,
            tasks=scenario.max_tasks,
            size_scale_mbit=scenario.size_mbit.high,
            workload_scale_gcycles=scenario.max_workload_gcycles,
            slot_s=scenario.slot_s,
            **shared,
            **(of_a_set if settings.network == "set" else {}),
        )

    def for_servers(self, scenario: OffloadingScenario) -> ActorSpec:
        """The same actor for the servers of another scenario, or itself if it is bound to those it was trained on."""
        return self.model_copy(update={"servers": scenario.servers}) if self.network == "set" else self

    @property
    def groups(self) -> int:
        """Independent sets of weights G: one per server, or one for all."""
        return self.servers if self.sharing == "none" else 1

    @property
    def method(self) -> str:
        """What a policy of this form is called: LAD-TS or one of its learned baselines."""
        if self.network == "set":
            return "set-ts" if self.actor == "mlp" else "set-lad-ts"
        if self.actor == "diffusion":
            return "d2sac-ts" if self.memory == "gaussian" else "lad-ts"
        return "sac-ts" if self.actor == "mlp" else "dqn-ts"

    @property
    def latent_size(self) -> int:
        """Length of what the network starts from beside the state: B, or 0 where there is no chain."""
        return 0 if self.memory == "none" else self.servers

    @property
    def state_size(self) -> int:
        """Length D of the state vector."""
        if self.network == "set":
            return COMMON_FEATURES + self.servers * MEMBER_FEATURES
        blocks = 1 + (self.in_slot_load == "own") + (self.sharing == "full")
        return 2 + blocks * self.servers

    def state(
        self, observation: RouterView, size_mbit: Tensor, workload_gcycles: Tensor, own_gcycles: Tensor
    ) -> Tensor:
        """State of tasks about to be placed (LAD-TS spec §3): [d, w, q_1..q_B, own placements, deciding server].

        Args:
            observation: Backlogs and capacities.
            size_mbit: Task sizes ``[E, B, n]``.
            workload_gcycles: Workloads ``[E, B, n]``.
            own_gcycles: The deciding server's placements earlier in the slot ``[E, B, B]``; used if the spec says so.

        Returns:
            ``[E, B, n, D]``.
        """
        copies, servers, width = size_mbit.shape
        wide = (copies, servers, width, servers)
        queues = [observation.backlog_gcycles[:, None, None]]
        if self.in_slot_load == "own":
            # Scaled by the number of servers: what the slot would add if all of them did as this one does.
            queues.append(servers * own_gcycles[:, :, None])
        task = torch.stack([size_mbit, workload_gcycles], dim=-1)
        if self.normalise:
            task = task / task.new_tensor([self.size_scale_mbit, self.workload_scale_gcycles])
            per_slot = (observation.capacity_gcycles_s * self.slot_s)[:, None, None]
            queues = [torch.log1p(queue / per_slot) for queue in queues]
        parts = [task, *(queue.expand(wide) for queue in queues)]
        if self.sharing == "full":
            parts.append(torch.eye(servers, device=task.device, dtype=task.dtype)[:, None].expand(wide))
        return torch.cat(parts, dim=-1)

    def grouped(self, x: Tensor) -> Tensor:
        """Bring ``[E, B, n, F]`` into the order of the stacked networks, ``[G, rows, F]``."""
        if self.sharing == "full":
            return x.flatten(0, 2)[None]
        return x.transpose(0, 1).flatten(1, 2)

    def ungrouped(self, x: Tensor, copies: int, width: int) -> Tensor:
        """Undo ``grouped``."""
        if self.sharing == "full":
            return x.reshape(copies, self.servers, width, x.shape[-1])
        return x.reshape(self.servers, copies, width, x.shape[-1]).transpose(0, 1)


class Actor(nn.Module):
    """A stacked network that decides. Here π = softmax of :meth:`logits`, and nothing is random."""

    def __init__(self, spec: ActorSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, state: Tensor, latent: Tensor, noise: Tensor | None, available: Tensor | None = None) -> Tensor:
        """Return the action probabilities ``[G, rows, B]``.

        Args:
            state: See :meth:`logits`.
            latent: See :meth:`logits`.
            noise: See :meth:`logits`.
            available: Servers to choose from ``[G, rows, B]``, at least one per row; all of them if None.
        """
        return self.limited(self.logits(state, latent, noise), available).softmax(-1)

    def limited(self, logits: Tensor, available: Tensor | None) -> Tensor:
        """Rule out the servers that are not available. Not by probabilities, which may all be 0 among the others."""
        return logits if available is None else logits.masked_fill(~available, -torch.inf)

    @abstractmethod
    def logits(self, state: Tensor, latent: Tensor, noise: Tensor | None) -> Tensor:
        """Return one number per server ``[G, rows, B]``.

        Args:
            state: ``[G, rows, D]``.
            latent: ``[G, rows, latent_size]``.
            noise: From :meth:`chain_noise`.
        """

    def chain_noise(self, rows: int, generator: torch.Generator) -> Tensor | None:
        """Draw what a forward pass over ``[G, rows, B]`` needs of random numbers, on the host; None if nothing."""
        del rows, generator
        return None


class LatentDiffusionActor(Actor):
    """The stacked ε-networks and their reverse chain; π(·|s, x_I) = softmax(x_0) (LAD-TS spec §4.1–4.2)."""

    embedding: Tensor

    def __init__(self, spec: ActorSpec) -> None:
        super().__init__(spec)
        self.schedule = vp_schedule(spec.denoising_steps, spec.beta_min, spec.beta_max)
        inputs = spec.servers + EMBEDDING + spec.state_size
        self.net = StackedMLP(spec.groups, [inputs, spec.hidden, spec.hidden, spec.servers])
        self.register_buffer("embedding", step_embedding(spec.denoising_steps, EMBEDDING), persistent=False)

    def logits(self, state: Tensor, latent: Tensor, noise: Tensor | None) -> Tensor:
        """Run the chain.

        Args:
            state: ``[G, rows, D]``.
            latent: x_I ``[G, rows, B]``.
            noise: ``[I − 1, G, rows, B]`` or None.

        Returns:
            x_0 ``[G, rows, B]``.
        """
        first, second, last = (cast(StackedLinear, layer) for layer in self.net.layers)
        split = [self.spec.servers, EMBEDDING, self.spec.state_size]
        from_latent, from_step, from_state = torch.split(first.weight, split, dim=1)
        # Of the first layer's input [x_i, embedding, s] only x_i changes along the chain: the rest is computed once.
        condition = torch.baddbmm(first.bias, state, from_state)
        step_bias = torch.matmul(self.embedding, from_step)  # [G, I, hidden]

        def noise_estimate(x: Tensor, step: int) -> Tensor:
            hidden = torch.relu(torch.baddbmm(condition + step_bias[:, step - 1 : step], x, from_latent))
            output: Tensor = last(torch.relu(second(hidden)))
            if self.spec.epsilon_output == "softmax":
                return output.softmax(-1)
            return output.tanh() if self.spec.epsilon_output == "tanh" else output

        return reverse_chain(noise_estimate, latent, self.schedule, noise)

    def chain_noise(self, rows: int, generator: torch.Generator) -> Tensor | None:
        """Draw the noise of a chain over ``[G, rows, B]``, on the host; None if a single step needs none."""
        if self.spec.denoising_steps == 1:
            return None
        shape = (self.spec.denoising_steps - 1, self.spec.groups, rows, self.spec.servers)
        return torch.randn(shape, generator=generator).to(self.embedding.device)
