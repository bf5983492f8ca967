# SPDX-License-Identifier: Apache-2.0
"""Memories of latents: what the chains of a routing network start from."""

from __future__ import annotations

import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.roles.router.spec import RouterSpec

LATENT = "latent"
"""Name of the latents in the memory of a policy."""


class FreshLatents:
    """Gaussian latents, drawn anew for every task: nothing is remembered.

    Args:
        spec: What the network is.
    """

    remembered = False

    def __init__(self, spec: RouterSpec) -> None:
        self.spec = spec

    @property
    def size(self) -> int:
        """Length of a latent."""
        return self.spec.servers

    def begin(self, like: Tensor, trained: Tensor | None, generator: torch.Generator) -> Memory:
        """Return the first latents, by name.

        Args:
            like: A tensor ``[E, ...]`` of the copies, on their device.
            trained: Those that a trained policy begins with in every copy; N(0, 1) if None.
            generator: Of random latents.
        """
        del like, trained, generator
        return {}

    def read(self, memory: Memory, slot: int, index: Tensor, copies: int, generator: torch.Generator) -> Tensor:
        """Latents of the tasks with the given indices in a slot, ``[E, B, n, size]`` (a copy)."""
        shape = (copies, self.spec.servers, index.numel(), self.size)
        return torch.randn(shape, generator=generator).to(index.device)

    def write(self, memory: Memory, slot: int, index: Tensor, present: Tensor, probability: Tensor) -> None:
        """Store the probabilities of the tasks that were present, in place."""


class NoLatents(FreshLatents):
    """Empty latents of networks without a chain."""

    @property
    def size(self) -> int:
        """None."""
        return 0


class TaskLatents(FreshLatents):
    """The probabilities of the same server and index in the previous slot (docs/spec/ladts.md §4.3).

    Indices beyond those trained on wrap around.
    """

    remembered = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the table of one copy."""
        return self.spec.servers, self.spec.tasks, self.spec.servers

    def begin(self, like: Tensor, trained: Tensor | None, generator: torch.Generator) -> Memory:
        """See :meth:`FreshLatents.begin`."""
        copies = len(like)
        if trained is not None:
            return {LATENT: trained.to(like).repeat(copies, *[1] * trained.dim())}
        return {LATENT: torch.randn((copies, *self.shape), generator=generator).to(like)}

    def table(self, memory: Memory, slot: int) -> Tensor:
        """Return what is remembered for a slot ``[E, B, N, B]`` (a view)."""
        del slot
        return memory[LATENT]

    def read(self, memory: Memory, slot: int, index: Tensor, copies: int, generator: torch.Generator) -> Tensor:
        """See :meth:`FreshLatents.read`."""
        return self.table(memory, slot)[:, :, index % self.spec.tasks]

    def write(self, memory: Memory, slot: int, index: Tensor, present: Tensor, probability: Tensor) -> None:
        """Store the probabilities of the tasks that were present; cells of absent tasks keep their value.

        In place: a slot memory is large, and no caller keeps an old one.
        """
        table = self.table(memory, slot)
        for start in range(0, index.numel(), self.spec.tasks):  # one pass unless indices wrap around
            part = slice(start, start + self.spec.tasks)
            cell = index[part] % self.spec.tasks
            table[:, :, cell] = torch.where(present[:, :, part, None], probability[:, :, part], table[:, :, cell])


class SlotLatents(TaskLatents):
    """The probabilities of the same slot, server and index in the previous episode; slots wrap around, too."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the table of one copy."""
        return self.spec.slots, *super().shape

    def table(self, memory: Memory, slot: int) -> Tensor:
        """See :meth:`TaskLatents.table`."""
        return memory[LATENT][:, slot % self.spec.slots]


LATENTS: dict[str, type[FreshLatents]] = {
    "slot": SlotLatents,
    "task": TaskLatents,
    "gaussian": FreshLatents,
    "none": NoLatents,
}
"""Memories by the name that the setting ``memory`` uses."""
