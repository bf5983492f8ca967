# SPDX-License-Identifier: Apache-2.0
"""What travels between env runners, replay shards and learners; tensors travel as arrays, which Ray does not copy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgegen.algorithms.rllib.rollout import Fragment, JointFragment

Arrays = dict[str, npt.NDArray[Any]]


class Pace(NamedTuple):
    """How far learning is.

    Attributes:
        version: Updates made, of all roles together.
        clock: Slots learned from, summed over copies and runners.
    """

    version: int = 0
    clock: int = 0


@dataclass(frozen=True)
class Publication:
    """Weights that learners have published.

    Attributes:
        version: Updates made for them, of all roles together.
        clock: Slots learned from when they were made, summed over copies and runners.
        weights: Where they are in Ray's object store, in a list, so that only who needs them fetches them; empty for
            those that everybody began with.
    """

    version: int = 0
    clock: int = 0
    weights: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Grant:
    """Leave to play one fragment, and the newest weights that the shard knows of."""

    publication: Publication


@dataclass(frozen=True)
class Parcel:
    """A fragment on its way.

    Attributes:
        runner: Index of the env runner.
        version: Updates made for the weights it was played with.
        clock: Slots learned from when they were made.
        episodes: Episodes begun so far, as far as the runner knows, over all runners.
        slots: Slots played, summed over copies.
        rounds: Rounds played, summed over copies.
        roles: Columns ``[G, rows, ...]`` of each role, and which rows are transitions.
    """

    runner: int
    version: int
    clock: int
    episodes: int
    slots: int
    rounds: int
    roles: dict[str, tuple[Arrays, npt.NDArray[np.bool_]]]

    @classmethod
    def of(cls, fragment: JointFragment, runner: int, publication: Publication, episodes: int) -> Parcel:
        """Wrap a fragment."""
        roles = {name: (as_arrays(part.columns), part.valid.numpy()) for name, part in fragment.roles.items()}
        version, clock = publication.version, publication.clock
        return cls(runner, version, clock, episodes, fragment.slots, fragment.rounds, roles)

    def fragment(self, role: str) -> Fragment:
        """The transitions of a role."""
        columns, valid = self.roles[role]
        return Fragment(as_tensors(columns), torch.from_numpy(valid))


class Age(NamedTuple):
    """Weights that a fragment was played with, and how many slots it has."""

    version: int
    clock: int
    slots: int


@dataclass(frozen=True)
class Take:
    """What a shard hands to the learners at once.

    Attributes:
        life: The life of the shard: another one after it was lost.
        ticket: Under which the other learners fetch their parts.
        slots: Slots of the fragments that these updates are for, summed over copies.
        limit: Up to which clock learners may go on, as far as this shard is concerned.
        left: Slots that wait here and were not handed out.
        ages: Weights of every fragment.
        batches: Role and batch ``[rows, G, ...]`` of every update in order, for the first learner.
    """

    life: str
    ticket: int
    slots: int
    limit: int
    left: int
    ages: list[Age]
    batches: list[tuple[str, Arrays]]


def as_arrays(columns: dict[str, Tensor]) -> Arrays:
    """View tensors as arrays."""
    return {name: value.numpy() for name, value in columns.items()}


def as_tensors(columns: Arrays) -> dict[str, Tensor]:
    """View arrays as tensors; those that came from the object store must not be written to."""
    return {name: torch.from_numpy(value) for name, value in columns.items()}
