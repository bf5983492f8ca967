# SPDX-License-Identifier: Apache-2.0
"""Every knob of routers, with its source."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgegen.algorithms.roles.router.routers import router_class
from edgegen.envs.core.fields import (
    Batch,
    Copies,
    Count,
    Flag,
    Frozen,
    Positive,
    Probability,
    Real,
    Share,
    StepSize,
    Updates,
    Width,
)
from edgegen.envs.offloading.servers import MOST_SERVERS


class RouterSettings(Frozen):
    """Settings of routers. The defaults are those of LAD-TS in the authors' public code ("paper").

    A baseline is LAD-TS with other values of ``actor`` and ``memory``. What a network or method does not have, such as
    the chain of a plain network, ignores its settings.

    Attributes:
        actor: What decides. ``diffusion``: the chain. ``mlp``: a plain network with softmax (SAC-TS). ``q``: ε-greedy
            in one Q network, which takes the place of actor, critics and temperature (DQN-TS).
        sharing: ``none``: one learner per server, nothing shared, as published. ``full``: one set of weights, replay
            and temperature for all servers, told apart by a one-hot of the deciding server.
        network: ``mlp``: one output per server, for the servers it was trained on. ``set``: every server is scored by
            the same weights from features of its own, so one policy fits any servers
            (:mod:`~edgegen.algorithms.roles.router.set_view`). Needs ``sharing`` full, ``in_slot_load`` own and
            ``gamma`` 0.
        train_servers: Numbers of servers to train with in turn, episode by episode, instead of the scenario's own; of
            network ``set``, in a scenario that draws its servers.
        hidden: Width of the two hidden layers of actor and critics.
        denoising_steps: Steps I of the actor's chain.
        beta_min: Start of the variance schedule.
        beta_max: End of the variance schedule.
        epsilon_output: Output of the noise network. The authors' code uses ``softmax``; D2SAC uses ``tanh``.
        memory: Where the chain starts. ``slot``: the action probabilities of the same slot, server and index in the
            previous episode, as in the code; needs episodes that repeat. ``task``: those of the same server and
            index in the previous slot, as in the paper's figure; works online. ``gaussian``: fresh noise (D2SAC).
            ``none``: there is no chain (actors ``mlp`` and ``q``).
        normalise: Scale the state: sizes and workloads to [0, 1], backlogs to log1p of waiting time in slots.
        in_slot_load: Whether a server's own placements earlier in the slot are part of the state. ``own`` makes a
            slot's tasks sequential: one forward pass per task index instead of one per slot.
        credit: What a reward holds. ``own``: the delay of the task, as published. ``all``: also what the task delays
            others (:mod:`edgegen.algorithms.roles.router.credit`). ``everywhere``: as ``all``, and not on the chosen
            server alone but on every one, had the task gone there; of network ``set``
            (:mod:`edgegen.algorithms.roles.router.counterfactual`).
        credit_slots: Slots after the present one in which waiting of others counts, of credit ``everywhere``.
        actor_objective: ``reverse_kl``: expected value plus entropy, as published. ``forward_kl``: the cross-entropy
            to the Boltzmann policy of the critics, whose gradient does not vanish for actions ruled out.
        actor_lr: Adam step size of the actor.
        critic_lr: Adam step size of the critics.
        temperature_lr: Adam step size of ln ξ.
        initial_temperature: ξ at the start, in the unit of the reward: s or slots, or for network ``set`` the time that
            the mean task takes on an average server.
        critic_gain: What the critics of network ``set`` multiply their networks' outputs by. A step moves an output by
            about the step size, whatever its unit is, and what a placement costs others is about ten units.
        learn_temperature: Adapt ξ towards ``target_entropy``.
        target_entropy: H̄, nats. The published −1 is below any discrete entropy, so ξ only decays.
        soft_target: Whether the critics' target holds the entropy of the next decision, as in soft actor-critic.
        epsilon: Share of random actions of actor ``q`` while it explores.
        gamma: Discount per task.
        tau: Rate of the soft target update.
        target_copy_every: Updates of actor ``q`` between copies into its target network, which does not follow softly.
        reward_scale: Factor on the reward −T_serv, which network ``set`` takes in units of the mean task.
        reward_unit: What a reward of −1 stands for, if not the mean task: a second (``s``, as published), or a slot
            (``slot``), so that the same settings fit worlds of any pace.
        replay_capacity: Transitions kept per agent.
        replay_warmup: Updates begin when every agent holds more than this.
        batch_size: Transitions per agent and update.
        updates_per_slot: Updates per sampled slot of one copy; fractions accumulate.
        copies: Copies of the scenario an env runner plays side by side.
        legacy_alias: Store the latent *after* the decision instead of before it, as the authors' replay does by
            aliasing. The next latent of a slot's last task keeps its pre-decision value.
        legacy_zero_next_queue: Zero the queues in the next state of a slot's last task, as the authors' code does.
    """

    actor: Literal["diffusion", "mlp", "q"] = "diffusion"
    sharing: Literal["none", "full"] = "none"
    network: Literal["mlp", "set"] = "mlp"
    train_servers: tuple[Annotated[Count, Field(le=MOST_SERVERS)], ...] = ()
    hidden: Width = 20
    denoising_steps: Annotated[Count, Field(le=100)] = 5
    beta_min: Positive = 0.1
    beta_max: Positive = 10.0
    epsilon_output: Literal["softmax", "tanh", "linear"] = "softmax"
    memory: Literal["slot", "task", "gaussian", "none"] = "slot"
    normalise: Flag = False
    in_slot_load: Literal["none", "own"] = "none"
    credit: Literal["own", "all", "everywhere"] = "own"
    credit_slots: Count = 1
    actor_objective: Literal["reverse_kl", "forward_kl"] = "reverse_kl"
    actor_lr: StepSize = 1e-4
    critic_lr: StepSize = 1e-3
    temperature_lr: StepSize = 3e-4
    initial_temperature: Positive = 0.05
    critic_gain: Positive = 1.0
    learn_temperature: Flag = True
    target_entropy: Real = -1.0
    soft_target: Flag = True
    epsilon: Share = 0.01
    gamma: Probability = 0.95
    tau: Annotated[Positive, Field(le=1)] = 0.005
    target_copy_every: Count = 200
    reward_scale: Positive = 1.0
    reward_unit: Literal["s", "slot"] = "s"
    replay_capacity: Count = 1_000
    replay_warmup: Count = 300
    batch_size: Batch = 64
    updates_per_slot: Updates = 1.0
    copies: Copies = 1
    legacy_alias: Flag = False
    legacy_zero_next_queue: Flag = False

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.beta_min > self.beta_max:
            raise ValueError(f"beta_min is {self.beta_min:g}, but must not exceed beta_max, {self.beta_max:g}")
        router_class(self.network, self.actor).check(self)
        return self
