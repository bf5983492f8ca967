"""The deciding networks of the learned baselines, and from a spec to the network it asks for. No Ray."""

from __future__ import annotations

import torch
from torch import Tensor

from edgegen.algorithms.ladts.actor import Actor, ActorSpec, LatentDiffusionActor
from edgegen.algorithms.ladts.set_networks import SetActor, SetDiffusionActor
from edgegen.algorithms.nets.stacked import StackedMLP


class SoftmaxActor(Actor):
    """The actor of SAC-TS: a plain network from the state to the logits (LAD-TS spec §5)."""

    def __init__(self, spec: ActorSpec) -> None:
        super().__init__(spec)
        self.net = StackedMLP(spec.groups, [spec.state_size, spec.hidden, spec.hidden, spec.servers])

    def logits(self, state: Tensor, latent: Tensor, noise: Tensor | None) -> Tensor:
        """Return the logits ``[G, rows, B]`` of states ``[G, rows, D]``; there is no latent and no noise."""
        del latent, noise
        output: Tensor = self.net(state)
        return output


class QNetwork(SoftmaxActor):
    """The one network of DQN-TS: its outputs are values, and its policy is ε-greedy in them (LAD-TS spec §5)."""

    def forward(self, state: Tensor, latent: Tensor, noise: Tensor | None, available: Tensor | None = None) -> Tensor:
        """Probabilities ``[G, rows, B]``: 1 − ε for the best server, and ε spread over all that are available."""
        values = self.limited(self.logits(state, latent, noise), available)
        best = torch.nn.functional.one_hot(values.argmax(-1), self.spec.servers)
        if available is None:
            return (1 - self.spec.epsilon) * best + self.spec.epsilon / self.spec.servers
        return (1 - self.spec.epsilon) * best + self.spec.epsilon * available / available.sum(-1, keepdim=True)


ACTORS: dict[str, type[Actor]] = {"diffusion": LatentDiffusionActor, "mlp": SoftmaxActor, "q": QNetwork}
"""Deciding networks by the setting ``actor``."""


SET_ACTORS: dict[str, type[Actor]] = {"diffusion": SetDiffusionActor, "mlp": SetActor}
"""The same for ``network: set``."""


def make_actor(spec: ActorSpec) -> Actor:
    """Make the network a spec asks for, with fresh weights."""
    return (SET_ACTORS if spec.network == "set" else ACTORS)[spec.actor](spec)
