# SPDX-License-Identifier: Apache-2.0
"""The provisioning kind, served: edges are the servers of cells, and every request is a slot of one user.

Its policies decide for two roles, what edges keep and how many steps a request gets; where requests run is for a router
of another kind. A cell's budget of steps is what its edge can make in the promised delay, as in the world that policies
are trained in.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Policy
from edgegen.envs.core.radio import path_gain
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.core.world import Role
from edgegen.envs.provisioning.amenders import steps_from_share
from edgegen.envs.provisioning.curves import Curve, CurveSet, CurveTensors
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import CACHER, AllocatorView, CacherView
from edgegen.envs.provisioning.world import ProvisioningWorld
from edgegen.serve.config import ServiceConfig
from edgegen.serve.control.books import Server
from edgegen.serve.control.jobs import Job
from edgegen.serve.control.ledger import Ledger
from edgegen.serve.control.live_world import Kept, LiveWorld, Waiting, Wish
from edgegen.serve.control.steps import Placed, StepsView
from edgegen.serve.kinds.facts import facts_of, memory_gb_of
from edgegen.serve.kinds.registry import Clock, Served, scenario_of
from edgegen.serve.model_config import parse_size, picture_mbit, text_mbit

FRAMES = 10
"""Frames of an episode of training; live, the history is as long, and the frame number stays at the last one."""
MOST_SLOTS = 50
"""Most requests of a cell in a frame of training."""
SKEWNESS = 0.8
"""Zipf skewness of the requests in training; live, nobody knows it."""
USUAL_PROMPT = 100
"""Characters of a prompt, for the time that it takes on the way."""
AWAY_M, LOSS_DB, LOSS_DB_PER_DECADE = 200.0, 128.1, 37.6
"""Distance of all users and path loss: links are the same for all, so that they are no news to a policy."""


class LiveProvisioning(LiveWorld):
    """One copy of the provisioning world, made of the ledger of real edges; its cachers decide once a frame.

    Args:
        ledger: What is known of the edges.
        world: The service as a scenario.
        slot_s: Length of a slot, s.
        clock: Monotonic time, s.
    """

    kind: ClassVar[str] = ProvisioningWorld.kind
    roles: ClassVar[Mapping[str, Role]] = ProvisioningWorld.roles

    def __init__(
        self,
        ledger: Ledger,
        world: ProvisioningScenario,
        slot_s: float = 1.0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger, self._world = ledger, world
        self._rows = [server.row for server in ledger.servers if not server.cloud]
        self._history: deque[Tensor] = deque(maxlen=world.frames - 1)
        assert isinstance(world.curves, CurveSet)
        self._curves = CurveTensors(
            *(values[None] for values in CurveTensors.of(world.curves.per_model(world.models)).values())
        )
        super().__init__([ledger.servers[row] for row in self._rows], slot_s, clock=clock)

    @property
    def role(self) -> str:
        """None of its roles places requests; nothing ever waits here."""
        return "router"

    @property
    def cacher(self) -> str:
        """See :attr:`LiveWorld.cacher`."""
        return CACHER

    def asked(self, waiting: Waiting) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Refuse: its policies place no requests."""
        raise ValueError("policies of the kind provisioning place no requests")

    def observe(self) -> CacherView:
        """Return what cachers see: the requests of the frame that is over, and those of frames before."""
        ledger, world, rows = self.ledger, self._world, self._rows
        past = [*self._history, self._frequency()] if ledger.frame else []
        past = past[-(world.frames - 1) :]
        shape = (self.copies, len(rows), world.models)
        static = torch.from_numpy(world.static_popularity()).float().expand(shape)
        return CacherView(
            frame=len(past),
            skewness_state=torch.zeros(shape[:2], dtype=torch.int64),
            previous_cache=torch.from_numpy(ledger.wanted[rows])[None],
            frequency=past[-1] if past else torch.zeros(shape),
            history=torch.stack(past, 1) if past else torch.zeros(self.copies, 0, *shape[1:]),
            static_popularity=static,
            popularity=static,
            size_gb=torch.tensor(world.size_gb, dtype=torch.float64).expand(shape),
            storage_gb=torch.from_numpy(ledger.memory_gb[rows])[None],
            curves=self._curves,
        )

    def keep(self, action: Tensor) -> Kept:
        """Take what every cell is to cache ``[1, C, M]``, less what an edge may not hold or has no room for."""
        shape = (self.copies, len(self._rows), self._world.models)
        if tuple(action.shape) != shape:
            raise ValueError(f"what is cached has shape {tuple(action.shape)}, expected {shape}")
        if action.dtype != torch.bool and not bool(((action == 0) | (action == 1)).all()):
            raise ValueError("what is cached must be 0 or 1")
        ledger, wishes = self.ledger, {}
        if ledger.frame:
            self._history.append(self._frequency())
        for row, wanted in zip(self._rows, action[0].bool().numpy(), strict=True):
            ledger.keep(row, wanted)
            scores = {model: float(ledger.demand[row, ledger.columns[model]]) for model in ledger.models}
            models = [model for model in ledger.models if ledger.wanted[row, ledger.columns[model]]]
            wishes[ledger.servers[row].name] = Wish(tuple(models), scores)
        return Kept(wishes)

    def _frequency(self) -> Tensor:
        asked = torch.from_numpy(self.ledger.asked[self._rows])[None]
        return (asked / asked.sum(-1, keepdim=True).clamp_min(1)).float()


class ProvisioningSteps(StepsView):
    """What the allocator of one edge sees: a slot in which its one user asks, and those of other cells ask the same.

    Args:
        config: The service.
        name: The edge.
        world: The service as a scenario.
    """

    def __init__(self, config: ServiceConfig, name: str, world: ProvisioningScenario) -> None:
        self._world, self._cell = world, config.homes.index(name)
        self._models = {model: number for number, model in enumerate(config.models)}
        self._first = config.edges[[edge.name for edge in config.edges].index(name)].all_models[0]
        assert isinstance(world.curves, CurveSet)
        self._curves = CurveTensors.of(world.curves.per_model(world.models))
        self._gain = float(path_gain(np.array(AWAY_M), LOSS_DB, LOSS_DB_PER_DECADE))

    def observe(self, job: Job, placed: Placed) -> AllocatorView:
        """Return the view of the provisioning world's allocators for one copy."""
        del placed
        world, number = self._world, self._models[job.model or self._first]
        shape = (1, world.cells, 1)
        cache = torch.zeros(1, world.cells, world.models, dtype=torch.bool)
        cache[..., number] = True  # whatever is asked for is there, or has been loaded by then
        size_mbit = text_mbit(job.prompt + (job.negative_prompt or ""))
        return AllocatorView(
            frame=0,
            slot=0,
            model=torch.full(shape, number),
            hit=torch.ones(shape, dtype=torch.bool),
            cache=cache,
            upload_mbit=torch.full(shape, size_mbit),
            result_mbit=torch.full(shape, len(job.seeds) * picture_mbit(job.width * job.height)),
            gain=torch.full(shape, self._gain),
            steps_budget=torch.tensor([world.steps_per_cell], dtype=torch.float32),
            curves=CurveTensors(*(values[number].expand(shape) for values in self._curves.values())),
        )

    def steps(self, job: Job, placed: Placed, action: Tensor) -> int:
        """Return the share of its cell's budget, at most the steps that the job asks for."""
        del placed
        shape = (1, self._world.cells, 1, 2)
        if tuple(action.shape) != shape:
            raise ValueError(f"shares have shape {tuple(action.shape)}, expected {shape}")
        share = action[0, self._cell, 0, 1]
        if not math.isfinite(float(share)):
            raise ValueError(f"the share of the steps is {float(share)}")
        budget = torch.tensor(float(self._world.steps_per_cell[self._cell]))
        return int(steps_from_share(share[None], budget, torch.tensor(float(job.steps))))


def scenario(config: ServiceConfig, capacities_gcycles_s: tuple[float, ...]) -> ProvisioningScenario:
    """Describe the edges of a service as a scenario: cells of one user each, who asks in every slot.

    Args:
        config: The service.
        capacities_gcycles_s: Capacities of its edges, Gcycle/s.

    Raises:
        InputError: If no scenario can stand for it.
    """
    facts, cards = facts_of(config), config.cards()
    speeds = {edge.name: speed for edge, speed in zip(config.edges, capacities_gcycles_s, strict=True)}
    edges = [edge for edge in config.edges if edge.cloud is None]
    step_gcycles = max(card.cycles_per_step_gcycles for card in cards.values())
    width, height = parse_size(next(iter(cards.values())).sizes[0])
    bits = {"upload_mb": text_mbit("x" * USUAL_PROMPT) / 8, "result_mb": picture_mbit(width * height) / 8}
    curves = tuple(
        Curve(
            a1_steps=min(facts[name].least_steps, card.default_steps - 1),
            a2_tv=1 - facts[name].quality(facts[name].least_steps / card.default_steps),
            a3_steps=card.default_steps,
            a4_tv=1 - facts[name].full_quality,
            b1_s_per_step=card.cycles_per_step_gcycles,
            b2_s=card.fixed_gcycles,
            model=name,
        )
        for name, card in cards.items()
    )
    return build_scenario(
        {
            "kind": "provisioning",
            "name": config.name,
            "description": f"The edge servers of the service '{config.name}'.",
            "cells": len(edges),
            "users": 1,
            "models": len(cards),
            "frames": FRAMES,
            "slots_per_frame": min(max(round(config.frame_s / config.slot_s), 1), MOST_SLOTS),
            "size_gb": tuple(own.size_gb for own in facts.values()),
            "storage_gb": tuple(memory_gb_of(edge, facts) for edge in edges),
            "steps_per_slot": tuple(
                max(int(min(config.promise_s * speeds[edge.name] / step_gcycles, 1e5)), 1) for edge in edges
            ),
            "curves": CurveSet(source=f"the service '{config.name}'", quality="one minus the quality", curves=curves),
            "skewness": {"states": (SKEWNESS,), "transition": ((1.0,),)},
            "drift": {"start": "shuffled", "swaps_per_frame": 1, "swap": "adjacent"},
            **{name: {"low": value, "high": value} for name, value in bits.items()},
            "side_m": AWAY_M,
            "mobility": {"kind": "fixed"},
            "min_distance_m": AWAY_M,  # nobody is farther from the middle of the square
            "path_loss_db": LOSS_DB,
            "path_loss_db_per_decade": LOSS_DB_PER_DECADE,
            "fading": "none",
            "noise_dbm_hz": -174.0,
            "uplink_mhz": 20.0,
            "downlink_mhz": 40.0,
            "user_power_dbm": 23.0,
            "station_power_dbm": 43.0,
            "backhaul_mbit_s": min(edge.rate_mbit_s for edge in edges),
            "delay_weight": 0.3,
            "max_delay_s": config.promise_s,
            "late_penalty": config.utility.late_penalty,
            "allocation_amender": {"map": "affine", "shares": "scale", "bandwidth_lift": 0.001},
        },
        ProvisioningScenario,
    )


def live_world(config: ServiceConfig, servers: Sequence[Server], policy: Policy, clock: Clock) -> LiveProvisioning:
    """Make the live world that the cachers of a service decide in."""
    del policy
    ledger = servers[0].ledger
    assert ledger is not None
    return LiveProvisioning(ledger, scenario_of(config, kind="provisioning"), config.slot_s, clock=clock)


SERVED = Served(world=live_world, scenario=scenario, steps=ProvisioningSteps)
"""The entry for :mod:`edgegen.serve.kinds.registry`."""
