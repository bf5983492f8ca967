# SPDX-License-Identifier: Apache-2.0
"""A toy world, all of it: one dispatcher, two servers, and a job per slot that waits behind those before it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from edgegen.envs.core.fields import Count, Positive
from edgegen.envs.core.kinds import Array, Column, Kind, Meter, Values
from edgegen.envs.core.world import Role, World, WorldScenario

DISPATCHER = "dispatcher"


class ToyScenario(WorldScenario):
    """Two servers, and jobs of up to ``longest_s`` seconds, one every second."""

    kind: Literal["toy"] = "toy"
    slots: Annotated[Count, Field(le=10_000)] = 20
    longest_s: Positive = 2.0
    speeds: tuple[Positive, Positive] = (1.0, 0.5)


@dataclass(frozen=True)
class ToyView:
    """What waits at each server ``[E, 2]``, s, the job ``[E, 1]``, s of work, and speeds ``[E, 2]``."""

    slot: int
    backlog_s: Tensor
    work_s: Tensor
    speed: Tensor


@dataclass(frozen=True)
class ToyOutcome:
    """How long the job waited ``[E, 1]``, s."""

    wait_s: Tensor

    @property
    def rewards(self) -> Mapping[str, Tensor]:
        return {DISPATCHER: -self.wait_s}


ROLE = Role(DISPATCHER, "choice", "jobs", ("server",), ToyView, shape=lambda scenario: (1, 1, 2))


class ToyWorld(World):
    """A job comes every second, and waits behind those before it."""

    kind: ClassVar[str] = "toy"
    roles: ClassVar[Mapping[str, Role]] = {DISPATCHER: ROLE}
    slot: int
    backlog_s: Tensor
    work_s: Tensor

    def __init__(self, scenario: ToyScenario, copies: int = 1, device: torch.device | str = "cpu") -> None:
        self.scenario, self.copies, self.device = scenario, copies, torch.device(device)
        self.speed = torch.tensor(scenario.speeds, device=self.device).expand(copies, 2)
        self.reset(0)

    def reset(self, seed: int | None = None, first_episode: int = 0) -> ToyView:
        if seed is None:
            seed, first_episode = self.seed, self.first_episode + self.copies
        zeros = torch.zeros(self.copies, 2, device=self.device)
        self.load_state_dict({"seed": seed, "first_episode": first_episode, "slot": 0, "backlog_s": zeros})
        return self.observe()

    @property
    def turn(self) -> str | None:
        return DISPATCHER if self.slot < self.scenario.slots else None

    @property
    def round(self) -> int:
        return self.slot

    def observe(self) -> ToyView:
        return ToyView(self.slot, self.backlog_s, self.work_s[:, self.slot, None], self.speed)

    def decide(self, action: Tensor) -> ToyOutcome:
        if self.turn is None:
            raise ValueError("the episode is over; call reset()")
        server = action.to(self.device).view(self.copies, 1)
        wait_s = self.backlog_s.gather(-1, server)
        lasts_s = self.work_s[:, self.slot, None] / self.speed.gather(-1, server)
        self.backlog_s = (self.backlog_s.scatter_add(-1, server, lasts_s) - 1).clamp_min(0)
        self.slot += 1
        return ToyOutcome(wait_s)

    def state_dict(self) -> dict[str, Any]:
        backlog_s = self.backlog_s.clone()
        return {"seed": self.seed, "first_episode": self.first_episode, "slot": self.slot, "backlog_s": backlog_s}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seed, self.first_episode, self.slot = state["seed"], state["first_episode"], state["slot"]
        self.backlog_s = state["backlog_s"].to(self.device).clone()
        episodes = range(self.first_episode, self.first_episode + self.copies)
        drawn = [np.random.default_rng((self.seed, number)).random(self.scenario.slots + 1) for number in episodes]
        self.work_s = torch.tensor(np.stack(drawn) * self.scenario.longest_s, dtype=torch.float32, device=self.device)


class WaitMeter(Meter):
    """Mean wait of each episode, s."""

    def __init__(self, world: World) -> None:
        self.waits_s: list[Tensor] = []

    def add(self, role: str, view: ToyView, outcome: ToyOutcome) -> None:
        self.waits_s.append(outcome.wait_s[:, 0])

    def headline(self) -> Array:
        return torch.stack(self.waits_s, 1).double().mean(1).cpu().numpy()

    def values(self) -> Values:
        return {"wait_s": self.headline()}


KIND = Kind(
    name="toy", scenario=ToyScenario, world=ToyWorld, meter=WaitMeter,
    default_scenario=str(Path(__file__).with_name("toy.yaml")),
    entries=lambda scenario: 2 * scenario.slots, size=lambda scenario: {"longest_s": scenario.longest_s},
    rounds=lambda scenario: scenario.slots, shape=lambda scenario: {"servers": 2},
    effort=lambda scenario: (scenario.slots,), metric="wait_s", quantity="wait", axis="mean wait of an episode",
    suffix="_s", unit=", s", interval_name="wait_interval_s", paired_by="jobs", seed_name="job_seed",
    counted="jobs", constant=lambda scenario: {"jobs": scenario.slots}, reference="coin",
    averaged="Waits are averaged over jobs.", metrics=("wait_s",),
    columns=(Column("slots", lambda scenario: str(scenario.slots)),), caption="A job comes every second.",
)  # fmt: skip
