"""Actor and critic of the allocating agent: D3PG, which is DDPG with a diffusion actor, and DDPG's plain actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from edgegen.algorithms.nets.diffusion import reverse_chain, vp_schedule
from edgegen.algorithms.nets.sets import StackedSet
from edgegen.algorithms.nets.stacked import StackedMLP
from edgegen.algorithms.nets.step_embeddings import STEP_EMBEDDINGS
from edgegen.algorithms.t2drl.spec import T2DRLSpec
from edgegen.envs.provisioning.amenders import amount_from_raw, raw_from_shares, shares_from_raw
from edgegen.envs.provisioning.parts import AllocationRule

EMBEDDING = 16
"""Width of the step embedding."""


class AllocationActor(nn.Module):
    """From a slot's state to a raw action in [−1, 1]: bandwidth of all users, then computing of all users.

    With ``actor: diffusion`` the action is the end of a reverse chain from Gaussian noise whose noise network sees the
    state (the form of D3PG in arXiv 2507.20524); with ``mlp`` it is the tanh of a plain network of the same size.
    """

    def __init__(self, spec: T2DRLSpec) -> None:
        super().__init__()
        self.spec = spec
        chosen = spec.settings
        self.steps = chosen.denoising_steps if chosen.actor == "diffusion" else 0
        hidden = [chosen.hidden] * chosen.hidden_layers
        chain = bool(self.steps)
        if chosen.network == "set":
            member = spec.user_features + 2 * chain
            self.net: nn.Module = StackedSet(
                spec.groups, member, spec.cell_features + EMBEDDING * chain, hidden, 2, chosen.comparisons
            )
        else:
            inputs = spec.slot_state_size + (self.actions + EMBEDDING) * chain
            self.net = StackedMLP(spec.groups, [inputs, *hidden, self.actions])
        if chain:
            self.schedule = vp_schedule(self.steps, chosen.beta_min, chosen.beta_max)
            self.embedding = STEP_EMBEDDINGS[chosen.step_embedding](spec.groups, self.steps, EMBEDDING)

    @property
    def actions(self) -> int:
        """Length of the raw action, 2N."""
        return 2 * self.spec.users

    def forward(self, state: Tensor, noise: Tensor | None) -> Tensor:
        """Return raw actions in [−1, 1] ``[G, rows, 2N]``; arguments as for :meth:`unbounded`."""
        return self.squash(self.unbounded(state, noise))

    def squash(self, x: Tensor) -> Tensor:
        """Bring what :meth:`unbounded` returned into [−1, 1]."""
        return x.clamp(-1, 1) if self.steps and self.spec.settings.squash == "clamp" else x.tanh()

    def unbounded(self, state: Tensor, noise: Tensor | None) -> Tensor:
        """Return raw actions before they are squashed ``[G, rows, 2N]``.

        Args:
            state: ``[G, rows, D]``.
            noise: What :meth:`draw_noise` drew; None for a plain actor.
        """
        if noise is None:
            return self._network(state)(None, 0)
        chosen, network = self.spec.settings, self._network(state)

        def estimate(x: Tensor, step: int) -> Tensor:
            output = network(x, step)
            return output.tanh() if chosen.epsilon_output == "tanh" else output

        between = noise[1:] if chosen.chain_noise and self.steps > 1 else None
        return reverse_chain(estimate, noise[0], self.schedule, between, 1.0 if chosen.clip_denoised else None)

    def _network(self, state: Tensor) -> Callable[[Tensor | None, int], Tensor]:
        """Return the network as a function of chain value and step, all that is constant along the chain prepared."""
        spec = self.spec
        rows = state.shape[:2]
        embeddings = self.embedding()[:, :, None].expand(-1, -1, rows[1], -1) if self.steps else None
        if spec.settings.network == "mlp":
            net = cast(StackedMLP, self.net)

            def flat(x: Tensor | None, step: int) -> Tensor:
                inputs = state
                if x is not None and embeddings is not None:
                    inputs = torch.cat([x, embeddings[:, step - 1], state], -1)
                output: Tensor = net(inputs)
                return output

            return flat
        users, cell = spec.by_user(state)

        def by_user(x: Tensor | None, step: int) -> Tensor:
            members, common = users, cell
            if x is not None and embeddings is not None:
                members = torch.cat([x.view(*rows, 2, spec.users).transpose(-1, -2), users], -1)
                common = torch.cat([cell, embeddings[:, step - 1]], -1)
            output: Tensor = self.net(members, common)
            return output.transpose(-1, -2).reshape(*rows, -1)

        return by_user

    def draw_noise(self, rows: int, generator: torch.Generator) -> Tensor | None:
        """Draw x_L and the noise between the steps ``[L, G, rows, 2N]``, on the host; None for a plain actor."""
        if not self.steps:
            return None
        shape = (self.steps, self.spec.groups, rows, self.actions)
        return torch.randn(shape, generator=generator).to(self.embedding.sinusoids.device)


class AllocationCritic(nn.Module):
    """The value of a raw action in a slot: of every user's own cost, or of the mean reward.

    Values are ``[G, rows, N]`` with ``critic_target: per_user``, whose mean is the value of the slot, and
    ``[G, rows, 1]`` otherwise.
    """

    def __init__(self, spec: T2DRLSpec) -> None:
        super().__init__()
        self.spec = spec
        chosen = spec.settings
        hidden = [chosen.hidden] * chosen.hidden_layers
        per_user = 2 + 2 * chosen.critic_shares
        if chosen.network == "set":
            self.net: nn.Module = StackedSet(spec.groups, spec.user_features + per_user, spec.cell_features, hidden, 1)
        else:
            outputs = spec.users if chosen.critic_target == "per_user" else 1
            self.net = StackedMLP(spec.groups, [spec.slot_state_size + per_user * spec.users, *hidden, outputs])

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """Return values of raw actions ``[G, rows, 2N]`` in states ``[G, rows, D]``."""
        spec, chosen = self.spec, self.spec.settings
        parts = [action[..., : spec.users], action[..., spec.users :]]
        if chosen.critic_shares:
            # Times N: 1 is an equal share.
            shares = shares_from_raw(spec.allocation, parts[0], parts[1], spec.hits(state))
            parts += [share * spec.users for share in shares]
        if chosen.network == "mlp":
            value: Tensor = self.net(torch.cat([*parts, state], -1))
            return value
        users, cell = spec.by_user(state)
        value = self.net(torch.cat([torch.stack(parts, -1), users], -1), cell)[..., 0]
        return value if chosen.critic_target == "per_user" else value.mean(-1, keepdim=True)


def serving_options(rule: AllocationRule, action: Tensor, hit: Tensor) -> Tensor:
    """Actions in which only the k hits with the largest computing shares get any, k = 1..N: ``[G, N, rows, 2N]``.

    Those who had less than half of the largest share get the mean of the others: more can be served than before.

    Args:
        rule: How raw actions become shares.
        action: Raw action ``[G, rows, 2N]``.
        hit: Whether a user's model is cached ``[G, rows, N]``.
    """
    users = hit.shape[-1]
    bandwidth, compute = action[..., :users], action[..., users:]
    amount = amount_from_raw(rule, compute) * hit
    rank = amount.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    large = (amount >= amount.amax(-1, keepdim=True) / 2) & hit
    usual = (amount * large).sum(-1, keepdim=True) / large.sum(-1, keepdim=True).clamp_min(1)
    amount = torch.where(large, amount, usual)
    served = torch.arange(1, users + 1, device=rank.device)[:, None, None] > rank[:, None]
    compute = raw_from_shares(rule, torch.where(served, amount[:, None], torch.zeros_like(amount[:, None])))
    return torch.cat([bandwidth[:, None].expand_as(compute), compute], -1)
