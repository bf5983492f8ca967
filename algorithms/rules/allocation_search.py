# SPDX-License-Identifier: Apache-2.0
"""A genetic algorithm that divides bandwidth and computing in a slot, for whole batches of slots at once.

It is the heuristic of the benchmark SCHRS. Operators and sizes are our choice; that the best of all tried decisions is
kept follows a paper of the same author (Z. Liu et al., IEEE TMC 24(3), 2025).
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from edgegen.envs.provisioning.amenders import raw_from_shares, shares_from_raw
from edgegen.envs.provisioning.physics import serve
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import AllocatorView

_Probability = Annotated[float, Field(ge=0, le=1)]


class SearchSettings(BaseModel):
    """How the genetic algorithm searches.

    Attributes:
        population: Decisions kept from one generation to the next.
        generations: Generations after the first.
        tournament: Decisions that compete for being a parent.
        crossover: Probability that two parents are blended instead of copied.
        blend: How far a child may lie outside the span of its parents, in spans.
        mutation: Probability that a gene of a child is changed.
        mutation_sigma: Standard deviation of that change; genes lie in [0, 1].
        with_equal_shares: Equal shares are among the first decisions, so that the result is never worse than they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    population: Annotated[int, Field(ge=2)] = 50
    generations: Annotated[int, Field(ge=0)] = 50
    tournament: Annotated[int, Field(ge=1)] = 3
    crossover: _Probability = 0.8
    blend: Annotated[float, Field(ge=0)] = 0.5
    mutation: _Probability = 0.1
    mutation_sigma: Annotated[float, Field(ge=0)] = 0.1
    with_equal_shares: bool = True


def search_allocation(
    scenario: ProvisioningScenario,
    observation: AllocatorView,
    generator: torch.Generator,
    settings: SearchSettings | None = None,
) -> tuple[Tensor, Tensor]:
    """Search for the shares with the least mean cost, each cell by itself.

    A decision is a gene per user for the bandwidth and one for the computing, which become shares like the raw actions
    of an agent: it can choose among the same shares as an agent can.

    Args:
        scenario: The constants.
        observation: The slot, with leading axes ``[E, …]``.
        generator: Where random numbers come from, on the host.
        settings: Sizes and operators.

    Returns:
        Shares of bandwidth and computing ``[E, C, N]`` each.
    """
    settings = settings or SearchSettings()
    gain, size = observation.gain, settings.population
    *cells, users = gain.shape
    shape = (size, *cells, 2 * users)

    def uniform(*wanted: int) -> Tensor:
        return torch.rand(wanted, generator=generator).to(gain)

    def shares(genes: Tensor) -> tuple[Tensor, Tensor]:
        raw = raw_from_shares(scenario.allocation_amender, genes)
        return shares_from_raw(scenario.allocation_amender, raw[..., :users], raw[..., users:], observation.hit)

    def cost_of(genes: Tensor) -> Tensor:
        return serve(scenario, observation, *shares(genes)).cost.mean(-1)

    genes = uniform(*shape)
    if settings.with_equal_shares:
        # One share of all users: they add up to one for misses and hits alike, whichever way shares are divided.
        genes[0] = 1 / users
    cost = cost_of(genes)
    for _ in range(settings.generations):
        best = _pick(genes, cost.argmin(0, keepdim=True))
        rivals = (uniform(settings.tournament, *cost.shape) * size).long()
        winners = rivals.gather(0, cost.gather(0, rivals.flatten(0, 1)).view(rivals.shape).argmin(0, keepdim=True))[0]
        mothers = _pick(genes, winners)
        fathers = mothers.roll(1, 0)  # every parent meets the winner of another tournament
        blended = uniform(*cost.shape)[..., None] < settings.crossover
        place = uniform(*shape) * (1 + 2 * settings.blend) - settings.blend
        genes = torch.where(blended, mothers + (fathers - mothers) * place, mothers)
        change = torch.randn(shape, generator=generator).to(gain) * settings.mutation_sigma
        genes = (genes + change * (uniform(*shape) < settings.mutation)).clamp(0, 1)
        genes[0] = best[0]
        cost = cost_of(genes)
    return shares(_pick(genes, cost.argmin(0, keepdim=True))[0])


def _pick(genes: Tensor, index: Tensor) -> Tensor:
    """Decisions ``[K, ..., G]`` of a population ``[P, ..., G]`` by their numbers ``[K, ...]``."""
    return genes.gather(0, index[..., None].expand(*index.shape, genes.shape[-1]))
