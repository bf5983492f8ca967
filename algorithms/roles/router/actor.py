# SPDX-License-Identifier: Apache-2.0
"""The networks that decide: the latent action diffusion, and those of the learned baselines."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from edgegen.algorithms.nets.diffusion import OUTPUTS, reverse_chain, step_embedding, vp_schedule
from edgegen.algorithms.nets.stacked import StackedLinear, StackedMLP
from edgegen.algorithms.roles.router.spec import RouterSpec

EMBEDDING = 16
"""Width of the step embedding (docs/spec/ladts.md §4.2)."""


class Actor(nn.Module):
    """A stacked network that decides. Here π = softmax of :meth:`logits`, and nothing is random.

    Attributes:
        chain: Whether the logits are the end of a chain that starts from a latent.
    """

    chain: ClassVar[bool] = False

    def __init__(self, spec: RouterSpec) -> None:
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
            latent: What a chain starts from, x_I ``[G, rows, B]``; ``[G, rows, 0]`` where there is none.
            noise: From :meth:`chain_noise`.
        """

    def chain_noise(self, rows: int, generator: torch.Generator) -> Tensor | None:
        """Draw what a forward pass over ``[G, rows, B]`` needs of random numbers, on the host; None if nothing."""
        del rows, generator
        return None


class ChainActor(Actor):
    """What all actors share whose logits are the end x_0 of a reverse chain (docs/spec/ladts.md §4.1–4.2)."""

    chain: ClassVar[bool] = True
    embedding: Tensor

    def __init__(self, spec: RouterSpec) -> None:
        super().__init__(spec)
        self.schedule = vp_schedule(spec.denoising_steps, spec.beta_min, spec.beta_max)
        self.register_buffer("embedding", step_embedding(spec.denoising_steps, EMBEDDING), persistent=False)

    def chain_noise(self, rows: int, generator: torch.Generator) -> Tensor | None:
        """Draw the noise of a chain over ``[G, rows, B]``, on the host; None if a single step needs none."""
        if self.spec.denoising_steps == 1:
            return None
        shape = (self.spec.denoising_steps - 1, self.spec.groups, rows, self.spec.servers)
        return torch.randn(shape, generator=generator).to(self.embedding.device)


class LatentDiffusionActor(ChainActor):
    """The stacked ε-networks and their reverse chain; π(·|s, x_I) = softmax(x_0).

    Args:
        spec: What the network is.
        state_size: Length D of the state.
    """

    def __init__(self, spec: RouterSpec, state_size: int) -> None:
        super().__init__(spec)
        self.split = [spec.servers, EMBEDDING, state_size]
        self.net = StackedMLP(spec.groups, [sum(self.split), spec.hidden, spec.hidden, spec.servers])

    def logits(self, state: Tensor, latent: Tensor, noise: Tensor | None) -> Tensor:
        """Run the chain from latents ``[G, rows, B]`` with noise ``[I − 1, G, rows, B]`` or None."""
        first, second, last = (cast(StackedLinear, layer) for layer in self.net.layers)
        from_latent, from_step, from_state = torch.split(first.weight, self.split, dim=1)
        # Of the first layer's input [x_i, embedding, s] only x_i changes along the chain: the rest is computed once.
        condition = torch.baddbmm(first.bias, state, from_state)
        step_bias = torch.matmul(self.embedding, from_step)  # [G, I, hidden]
        output = OUTPUTS[self.spec.epsilon_output]

        def noise_estimate(x: Tensor, step: int) -> Tensor:
            hidden = torch.relu(torch.baddbmm(condition + step_bias[:, step - 1 : step], x, from_latent))
            return output(last(torch.relu(second(hidden))))

        return reverse_chain(noise_estimate, latent, self.schedule, noise)


class SoftmaxActor(Actor):
    """The actor of SAC-TS: a plain network from the state to the logits (docs/spec/ladts.md §5).

    Args:
        spec: What the network is.
        state_size: Length D of the state.
    """

    def __init__(self, spec: RouterSpec, state_size: int) -> None:
        super().__init__(spec)
        self.net = StackedMLP(spec.groups, [state_size, spec.hidden, spec.hidden, spec.servers])

    def logits(self, state: Tensor, latent: Tensor, noise: Tensor | None) -> Tensor:
        """Return the logits ``[G, rows, B]`` of states ``[G, rows, D]``; there is no latent and no noise."""
        del latent, noise
        output: Tensor = self.net(state)
        return output


class QNetwork(SoftmaxActor):
    """The one network of DQN-TS: its outputs are values, and its policy is ε-greedy in them (docs/spec/ladts.md §5)."""

    def forward(self, state: Tensor, latent: Tensor, noise: Tensor | None, available: Tensor | None = None) -> Tensor:
        """Probabilities ``[G, rows, B]``: 1 − ε for the best server, and ε spread over all that are available."""
        values = self.limited(self.logits(state, latent, noise), available)
        best = torch.nn.functional.one_hot(values.argmax(-1), self.spec.servers)
        if available is None:
            return (1 - self.spec.epsilon) * best + self.spec.epsilon / self.spec.servers
        return (1 - self.spec.epsilon) * best + self.spec.epsilon * available / available.sum(-1, keepdim=True)
