# SPDX-License-Identifier: Apache-2.0
"""The provisioning world: models are cached once per frame, bandwidth and computing are divided in every slot.

That there are two timescales, caching on the long and allocation on the short one, is arXiv 2411.01458's; how they
work here is our choice. Everything carries a leading batch axis E of independent copies, cells C, and users N or models
M; no loop runs over any of them. What happens within a slot is in :mod:`edgegen.envs.provisioning.physics`.

In each frame the cells decide what to cache, then in each of its slots how to divide the uplink and the denoising
steps of the edge server among their users. A request for a model that is not cached is served by the cloud, over the
backhaul and at the best quality.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from edgegen.envs.core.fields import check_copies
from edgegen.envs.core.world import Role, World
from edgegen.envs.provisioning.amenders import CachingAmender, make_caching_amender, storage_overflow_gb
from edgegen.envs.provisioning.curves import CurveTensors
from edgegen.envs.provisioning.draws import MBIT_PER_MB, Episodes, draw_requests
from edgegen.envs.provisioning.physics import SlotOutcome, serve
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import ALLOCATOR, CACHER, AllocatorView, CacherView

MBIT_PER_GB = 1000 * MBIT_PER_MB


@dataclass(frozen=True)
class CacheOutcome:
    """What came of the caching decision of a frame.

    Attributes:
        cache: What is cached, after the amender ``[E, C, M]``, bool.
        overflow_gb: Storage that the decision before the amender took beyond what there is ``[E, C]``, GB.
        fetch_s: Time to fetch what was not cached before over the backhaul ``[E, C]``, s.
        penalty: What the frame's reward loses for both ``[E, C]``.
    """

    cache: Tensor
    overflow_gb: Tensor
    fetch_s: Tensor
    penalty: Tensor

    @property
    def rewards(self) -> dict[str, Tensor]:
        """Nothing yet: a cacher is judged when its frame is over."""
        return {}


@dataclass
class ProvisioningState:
    """Everything that changes while the simulator runs.

    What happens from outside is a function of (seed, first_episode) and is redrawn on restore instead of being stored.

    Attributes:
        seed: Root of the streams.
        first_episode: Number of the first of the E episodes being played.
        frame: Frame being played; T when the episode is over.
        slot: Slot of the frame about to be allocated.
        caching: Whether the frame still waits for its caching decision.
        cache: What is cached ``[E, C, M]``, bool.
        penalty: What the reward of the frame loses for its caching decision ``[E, C]``.
        reward_sum: Sum of the slots' rewards in the frame ``[E, C]``.
    """

    seed: int
    first_episode: int
    frame: int
    slot: int
    caching: bool
    cache: Tensor
    penalty: Tensor
    reward_sum: Tensor


class ProvisioningWorld(World):
    """E independent copies of a scenario, played in lockstep, first the caching and then the slots of each frame.

    Example:
        >>> simulator = ProvisioningWorld(load_scenario("t2drl-default"), copies=64)
        >>> simulator.reset(seed=1)
        >>> while simulator.turn is not None:
        ...     outcome = simulator.decide(action_for(simulator.turn, simulator.observe()))

    Args:
        scenario: The world.
        copies: Number of copies E.
        device: Where state and equations live.
        dtype: Floating-point type of the state.
        caching_amender: What makes caching decisions fit, if not what the scenario names.

    Raises:
        InputError: If no memory holds so many copies.
    """

    kind: ClassVar[str] = "provisioning"
    roles: ClassVar[dict[str, Role]] = {
        CACHER: Role(CACHER, "subset", "models", ("cache",), CacherView),
        ALLOCATOR: Role(ALLOCATOR, "shares", "users", ("bandwidth", "compute"), AllocatorView),
    }

    def __init__(
        self,
        scenario: ProvisioningScenario,
        copies: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        caching_amender: CachingAmender | None = None,
    ) -> None:
        check_copies(copies, scenario.cells_of_an_episode, scenario.name)
        self.scenario = scenario
        self.copies = copies
        self.device = torch.device(device)
        self.dtype = dtype
        self.caching_amender = caching_amender or make_caching_amender(scenario.caching_amender)
        per_cell, per_model = (copies, scenario.cells), (copies, scenario.cells, scenario.models)
        self._storage_gb = torch.tensor(scenario.storage_per_cell_gb, device=self.device, dtype=torch.float64).expand(
            per_cell
        )
        self._steps_budget = torch.tensor(scenario.steps_per_cell, device=self.device, dtype=dtype).expand(per_cell)
        static = torch.from_numpy(scenario.static_popularity())
        self._static_popularity = static.to(self.device, dtype).expand(per_model)
        self.reset(seed=0)

    def reset(self, seed: int | None = None, first_episode: int = 0) -> CacherView:
        """Begin the next E episodes, or with a seed E episodes of that seed's stream.

        Args:
            seed: Root of the streams.
            first_episode: With a seed, number of the first episode.
        """
        if seed is None:
            seed, first_episode = self.state.seed, self.state.first_episode + self.copies
        zeros = torch.zeros(self.copies, self.scenario.cells, device=self.device, dtype=self.dtype)
        cache = torch.zeros(*zeros.shape, self.scenario.models, device=self.device, dtype=torch.bool)
        self._load(ProvisioningState(seed, first_episode, 0, 0, True, cache, zeros, zeros.clone()))
        return self.observe_frame()

    @property
    def turn(self) -> str | None:
        """The cachers' at the beginning of a frame, else the allocators', until every slot has been allocated."""
        if self.state.frame >= self.scenario.frames:
            return None
        return CACHER if self.state.caching else ALLOCATOR

    @property
    def round(self) -> int:
        """Frames that are over."""
        return self.state.frame

    def observe(self) -> CacherView | AllocatorView:
        """Return the frame or the slot that waits for a decision; at the end, the frame that would follow."""
        return self.observe_slot() if self.turn == ALLOCATOR else self.observe_frame()

    def decide(self, action: Tensor) -> CacheOutcome | SlotOutcome:
        """Cache models ``[E, C, M]``, or divide bandwidth and computing ``[E, C, N, 2]``, whichever is due."""
        if self.turn == ALLOCATOR:
            bandwidth, compute = (part.contiguous() for part in action.unbind(-1))
            return self.allocate(bandwidth, compute)
        return self.cache(action)

    @property
    def caching(self) -> bool:
        """True when the frame waits for its caching decision, False when a slot waits for its allocation."""
        return self.state.caching and not self.done

    @property
    def future(self) -> Episodes:
        """See :attr:`World.future`."""
        return self._episodes

    def observe_frame(self) -> CacherView:
        """Return the frame that is about to be cached for, or being played."""
        frame, drawn = self.state.frame, self._episodes
        return CacherView(
            frame,
            drawn.skewness_state[:, frame],
            self.state.cache,
            drawn.frequency[:, frame],
            drawn.frequency[:, 1 : frame + 1],
            self._static_popularity,
            drawn.popularity[:, frame],
            drawn.size_gb[:, None].expand(self.state.cache.shape),
            self._storage_gb,
            drawn.curves,
        )

    def cache(self, bits: Tensor) -> CacheOutcome:
        """Cache models for the frame.

        Args:
            bits: Whether each model is wanted in each cell's cache ``[E, C, M]``, bool or 0 and 1.

        Raises:
            ValueError: If no frame waits for it, or the bits have a wrong shape or other values.
        """
        state = self.state
        if not self.caching:
            raise ValueError(
                "the episode is over; call reset()" if self.done else "the frame is cached; call allocate()"
            )
        if bits.shape != state.cache.shape:
            raise ValueError(f"cache bits have shape {tuple(bits.shape)}, expected {tuple(state.cache.shape)}")
        if bits.dtype != torch.bool and not bool(((bits == 0) | (bits == 1)).all()):
            raise ValueError("cache bits must be 0 or 1")
        wanted, seen = bits.to(self.device, torch.bool), self.observe_frame()
        storage_gb = seen.storage_gb[..., None]
        cached = self.caching_amender(wanted, seen.size_gb, storage_gb, seen.frequency)
        overflow_gb = storage_overflow_gb(wanted, seen.size_gb, storage_gb)
        fetched_gb = (seen.size_gb * (cached & ~state.cache)).sum(-1)
        fetch_s = fetched_gb * (MBIT_PER_GB / self.scenario.backhaul_mbit_s)
        penalty = self.scenario.overflow_penalty_per_gb * overflow_gb + self.scenario.switching_weight * fetch_s
        outcome = CacheOutcome(cached, *(values.to(self.dtype) for values in (overflow_gb, fetch_s, penalty)))
        state.cache, state.penalty, state.caching = cached, outcome.penalty, False
        state.reward_sum = torch.zeros_like(state.reward_sum)
        return outcome

    def observe_slot(self) -> AllocatorView:
        """Return the slot about to be allocated.

        Raises:
            ValueError: If the frame waits for its caching decision, or the episode is over.
        """
        state, drawn = self.state, self._episodes
        if self.done or state.caching:
            raise ValueError("the episode is over; call reset()" if self.done else "no frame is cached; call cache()")
        slot = state.frame * self.scenario.slots_per_frame + state.slot
        model = drawn.model[:, slot]
        return AllocatorView(
            state.frame,
            state.slot,
            model,
            state.cache.gather(-1, model),
            state.cache,
            drawn.upload_mbit[:, slot],
            drawn.result_mbit[:, slot],
            drawn.gain[:, slot],
            self._steps_budget,
            CurveTensors(*(values[:, slot] for values in self._curves.values())),
        )

    def allocate(self, bandwidth: Tensor, compute: Tensor) -> SlotOutcome:
        """Divide bandwidth and computing, serve the requests and move to the next slot.

        Feasible shares are used as they are, others made feasible first; see :mod:`edgegen.envs.provisioning.amenders`.

        Args:
            bandwidth: Uplink share of each user ``[E, C, N]``.
            compute: Share of the steps for each user ``[E, C, N]``; ignored for misses.

        Raises:
            ValueError: If no slot waits for it, or the shares have a wrong shape or are not finite.
        """
        observation, state = self.observe_slot(), self.state
        expected = observation.model.shape
        for name, share in (("bandwidth", bandwidth), ("compute", compute)):
            if share.shape != expected:
                raise ValueError(f"{name} has shape {tuple(share.shape)}, expected {tuple(expected)}")
        if not bool((bandwidth + compute).isfinite().all()):
            raise ValueError("bandwidth and compute must be finite")
        outcome = serve(
            self.scenario, observation, bandwidth.to(self.device, self.dtype), compute.to(self.device, self.dtype)
        )
        state.reward_sum = state.reward_sum + outcome.reward
        state.slot += 1
        if state.slot == self.scenario.slots_per_frame:
            state.frame, state.slot, state.caching = state.frame + 1, 0, True
            return replace(outcome, frame_reward=self.frame_reward())
        return outcome

    def frame_reward(self) -> Tensor:
        """Reward of the frame just finished ``[E, C]``: mean of its slots' rewards, minus the penalties of caching.

        Raises:
            ValueError: If no frame has just been finished.
        """
        if self.state.frame == 0 or not self.state.caching:
            raise ValueError("no frame has just been finished")
        reward: Tensor = self.state.reward_sum / self.scenario.slots_per_frame - self.state.penalty
        return reward

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state as plain values and tensors."""
        state = {field.name: getattr(self.state, field.name) for field in fields(self.state)}
        return {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state returned by ``state_dict`` of a simulator of the same scenario and copies.

        Raises:
            ValueError: If the state is of other copies, cells or models.
        """
        restored = ProvisioningState(**state)
        if restored.cache.shape != self.state.cache.shape:
            raise ValueError(
                f"the state is of {tuple(restored.cache.shape)} copies, cells and models, "
                f"not {tuple(self.state.cache.shape)}"
            )
        restored.cache = restored.cache.to(self.device).clone()
        restored.penalty = restored.penalty.to(self.device, self.dtype).clone()
        restored.reward_sum = restored.reward_sum.to(self.device, self.dtype).clone()
        self._load(restored)

    def _load(self, state: ProvisioningState) -> None:
        episodes = range(state.first_episode, state.first_episode + self.copies)
        self._episodes = draw_requests(self.scenario, state.seed, episodes, self.device, self.dtype)
        # Per user once and for all: in every slot it would cost as much as the rest of the equations.
        model = self._episodes.model
        flat = model.flatten(1)
        per_user = (values.gather(1, flat).view(model.shape) for values in self._episodes.curves.values())
        self._curves = CurveTensors(*per_user)
        self.state = state
