# SPDX-License-Identifier: Apache-2.0
"""The agents of the provisioning world: cachers and allocators, a pair of them at every cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces

from edgegen.envs.core.agent_input import checked_option, chosen, numbers, shown
from edgegen.envs.core.agents import SLACK, Agents, Told
from edgegen.envs.core.errors import InputError
from edgegen.envs.provisioning.amenders import shares_from_raw
from edgegen.envs.provisioning.draws import MBIT_PER_MB
from edgegen.envs.provisioning.physics import SlotOutcome
from edgegen.envs.provisioning.world import CacheOutcome, ProvisioningWorld

_GAIN_DB = (-400.0, 100.0)  # gains are clipped to this; they are all but certain to lie inside
_MOST_BITS = 20  # of a caching decision as one number


class ProvisioningAgents(Agents):
    """Every cell caches models once per frame and divides bandwidth and computing in every slot.

    ## Description

    Each of the C cells is a pair of agents. At the start of a frame ``cacher_0 … cacher_{C-1}`` choose, one after the
    other, which of the M models their servers keep. In each of the K slots of the frame ``allocator_0 …
    allocator_{C-1}`` then divide the uplink and the denoising steps of their cells among N users. Nobody sees what
    others choose in the same round: all caches are filled when the last cacher has chosen, and the requests of a slot
    are served when the last allocator has. The caches are amended to fit the storage, and raw allocations turned into
    shares, as the scenario says (:mod:`edgegen.envs.provisioning.amenders`); delays, quality and cost follow from
    :func:`edgegen.envs.provisioning.physics.serve`.

    ## Action Space

    Cachers: ``MultiBinary(M)``, entry m for model m; with ``cache_action="index"`` ``Discrete(2^M)``, in which bit m
    of the number stands for model m, as an integer or an integer array of shape ``()`` or ``(1,)``. Allocators:
    ``Box(-1, 1, (2N,))``, a raw entry per user for the uplink, then one for the steps; clip what a policy without
    bounds draws. Nobody has an action mask: an agent acts on its turn only, and then every action is allowed.

    ## Observation Space

    A ``Box`` of float32 each. J is the number of skewness states.

    Cachers, ``(J + 3M + 1,)``:

    | Index            | Quantity                                          | Min | Max           | Unit |
    |------------------|---------------------------------------------------|-----|---------------|------|
    | 0 … J-1          | State of the skewness chain, one-hot              | 0   | 1             | –    |
    | J … J+M-1        | Models cached in the frame before                 | 0   | 1             | –    |
    | J+M … J+2M-1     | Share of each model in that frame's requests      | 0   | 1             | –    |
    | J+2M … J+3M-1    | Storage each model takes                          | 0   | max(c)        | GB   |
    | J+3M             | Storage of the cell's server                      | 0   | C             | GB   |

    Allocators, ``(11N + M + 1,)``, zero before the first slot:

    | Index            | Quantity                                          | Min  | Max          | Unit  |
    |------------------|---------------------------------------------------|------|--------------|-------|
    | 0 … N-1          | Power gain of each user                           | -400 | 100          | dB    |
    | N … 2N-1         | Model each user asks for                          | 0    | M-1          | –     |
    | 2N … 3N-1        | Data each user sends up                           | 0    | max(d_in)    | Mbit  |
    | 3N … 4N-1        | Data each user gets back                          | 0    | max(d_out)   | Mbit  |
    | 4N … 5N-1        | Whether the model is cached                       | 0    | 1            | –     |
    | 5N … 6N-1        | A1 of the model: steps before quality improves    | 0    | max(A1)      | steps |
    | 6N … 7N-1        | A2: TV up to there                                | 0    | max(A2)      | TV    |
    | 7N … 8N-1        | A3: steps from which quality is best              | 0    | max(A3)      | steps |
    | 8N … 9N-1        | A4: TV from there on                              | 0    | max(A4)      | TV    |
    | 9N … 10N-1       | B1: time per step                                 | 0    | max(B1)      | s     |
    | 10N … 11N-1      | B2: time besides                                  | 0    | max(B2)      | s     |
    | 11N … 11N+M-1    | Models cached in this frame                       | 0    | 1            | –     |
    | 11N+M            | Steps the server can make in the slot             | 0    | X            | steps |

    Once an episode is over, cachers see the frame that would follow. Upper bounds are a factor of 1.00001 wide, for
    rounding.

    ## Rewards

    An allocator gets, when a slot is served, minus the mean cost of its cell's users, G = α·delay + (1-α)·TV, and
    minus the penalty for late requests. A cacher gets, when a frame is over, the mean of these, minus the penalties
    for storage overflow and for fetching models.

    ## Infos

    Cachers, once their caches are filled: ``cache`` after the amender, ``overflow_gb`` before it, ``fetch_s``.
    Allocators, once a slot is served: means over the users ``cost``, ``tv``, ``delay_s`` and its parts ``uplink_s``,
    ``backhaul_s``, ``generation_s``, ``downlink_s``, shares of the users ``hit``, ``useless`` (hits with fewer steps
    than A1) and ``late``, and the ``steps`` of each user.

    Args:
        world: A world with one copy.
        cache_action: ``"bits"`` or ``"index"``.

    Raises:
        InputError: If there is no such form, or too many models for it.
    """

    def __init__(self, world: ProvisioningWorld, cache_action: Literal["bits", "index"] = "bits") -> None:
        checked_option("cache_action", cache_action, ("bits", "index"))
        scenario = world.scenario
        if cache_action == "index" and scenario.models > _MOST_BITS:
            raise InputError(
                f"cache_action is 'index' and the scenario has {scenario.models} models, but as one number a "
                f"caching decision can be about {_MOST_BITS} at most; use 'bits'."
            )
        self.world = world
        self._as_bits = cache_action == "bits"
        cells, models, users = range(scenario.cells), scenario.models, scenario.users
        self._cachers, self._allocators = [f"cacher_{i}" for i in cells], [f"allocator_{i}" for i in cells]
        self.names = [*self._cachers, *self._allocators]
        self.action_spaces = {
            **{a: spaces.MultiBinary(models) if self._as_bits else spaces.Discrete(2**models) for a in self._cachers},
            **{agent: spaces.Box(-1, 1, (2 * users,), np.float32) for agent in self._allocators},
        }
        self.observation_spaces = {
            **{agent: self._cacher_view_space(cell) for cell, agent in enumerate(self._cachers)},
            **{agent: self._allocator_view_space(cell) for cell, agent in enumerate(self._allocators)},
        }
        self.begin()

    def begin(self) -> None:
        """See :meth:`Agents.begin`."""
        self._served: SlotOutcome | None = None
        self._drawn = False
        self._next()

    def _next(self) -> None:
        self.acting = self._cachers if self.world.caching or self.world.done else self._allocators

    def observations(self) -> dict[str, Any]:
        """See :meth:`Agents.observations`."""
        rows = self._cacher_views() if self.acting is self._cachers else self._allocator_views()
        return dict(zip(self.acting, rows, strict=True))

    def checked(self, agent: str, action: Any) -> np.ndarray:
        """See :meth:`Agents.checked`."""
        return self._bits(agent, action) if agent in self._cachers else self._raw(agent, action)

    def take(self, actions: Mapping[str, Any]) -> Told:
        """Fill the caches, or serve a slot."""
        action = torch.from_numpy(np.stack([actions[agent] for agent in self.acting]))[None]  # [1, C, …]
        self._drawn = self.acting is self._allocators
        if not self._drawn:
            infos = self._told_to_cachers(self.world.cache(action))
            self._next()
            return {}, infos
        raw, hit = action.chunk(2, dim=-1), self.world.observe_slot().hit
        shares = shares_from_raw(self.world.scenario.allocation_amender, raw[0], raw[1], hit)
        self._served = self.world.allocate(*shares)
        told = self._told_to_allocators(self._served)
        self._next()
        return told

    @property
    def worth_drawing(self) -> bool:
        """Whether a slot was served in the last round."""
        return self._served is not None and self._drawn

    def drawing(self) -> str:
        """Caches as rows of models, and what became of the last slot."""
        state, outcome = self.world.state, self._served
        world = self.world.scenario
        lines = [f"frame {state.frame} of {world.frames}, slot {state.slot} of {world.slots_per_frame}"]
        for cell, cached in enumerate(state.cache[0].tolist()):
            line = f"cell {cell} |{''.join('#' if bit else '.' for bit in cached)}|"
            if outcome is not None:
                means = (outcome.delays.total_s[0, cell].mean(), outcome.tv[0, cell].mean())
                line += f" {int(outcome.hit[0, cell].sum())} hits, {means[0]:.1f} s, TV {means[1]:.1f}"
            lines.append(line)
        return "\n".join(lines) + "\n"

    def _told_to_cachers(self, outcome: CacheOutcome) -> dict[str, dict[str, Any]]:
        return {
            agent: {
                "cache": outcome.cache[0, cell].int().tolist(),
                "overflow_gb": float(outcome.overflow_gb[0, cell]),
                "fetch_s": float(outcome.fetch_s[0, cell]),
            }
            for cell, agent in enumerate(self._cachers)
        }

    def _told_to_allocators(self, outcome: SlotOutcome) -> Told:
        per_user = {
            "cost": outcome.cost,
            "tv": outcome.tv,
            "delay_s": outcome.delays.total_s,
            **vars(outcome.delays),
            "hit": outcome.hit,
            "useless": outcome.useless,
            "late": outcome.late,
        }
        means = {name: values[0].double().mean(-1).tolist() for name, values in per_user.items()}
        rewards, infos = {}, {}
        for cell, agent in enumerate(self._allocators):
            rewards[agent] = float(outcome.reward[0, cell])
            steps = outcome.steps[0, cell].int().tolist()
            infos[agent] = {**{name: values[cell] for name, values in means.items()}, "steps": steps}
        if self.world.caching or self.world.done:  # that was the last slot of its frame
            rewards |= dict(zip(self._cachers, self.world.frame_reward()[0].tolist(), strict=True))
        return rewards, infos

    def _bits(self, agent: str, action: Any) -> np.ndarray:
        models = self.world.scenario.models
        if not self._as_bits:
            index = chosen(agent, action, 2**models, "a number")
            return np.array([index >> m & 1 for m in range(models)], dtype=bool)
        bits = numbers(action)
        if bits is None or bits.shape != (models,) or not np.isin(bits, (0, 1)).all():
            raise InputError(f"the action of {agent} is {shown(action)}, but must be {models} numbers 0 or 1.")
        return bits.astype(bool)

    def _raw(self, agent: str, action: Any) -> np.ndarray:
        width = 2 * self.world.scenario.users
        raw = numbers(action)
        if raw is None or raw.shape != (width,) or not (np.abs(raw) <= SLACK).all():  # not a number is refused too
            raise InputError(
                f"the action of {agent} is {shown(action)}, but must be {width} finite numbers in [-1, 1]."
            )
        return raw.astype(np.float32)

    def _cacher_views(self) -> np.ndarray:
        frame = self.world.observe_frame()
        state = np.eye(len(self.world.scenario.skewness.states))[frame.skewness_state[0].numpy()]
        parts = (frame.previous_cache[0], frame.frequency[0], frame.size_gb[0], frame.storage_gb[0, :, None])
        return np.concatenate([state, *(part.numpy() for part in parts)], axis=1, dtype=np.float32)

    def _cacher_view_space(self, cell: int) -> spaces.Box:
        fractions = len(self.world.scenario.skewness.states) + 2 * self.world.scenario.models
        sizes = [self.world.scenario.largest_size_gb] * self.world.scenario.models
        high = np.array([1.0] * fractions + sizes + [self.world.scenario.storage_per_cell_gb[cell]])
        return spaces.Box(np.zeros(len(high), np.float32), (high * SLACK).astype(np.float32), dtype=np.float32)

    def _allocator_views(self) -> np.ndarray:
        slot = self.world.observe_slot()
        gain_db = (10 * slot.gain.log10()).clamp(*_GAIN_DB)
        parts = [gain_db, slot.model, slot.upload_mbit, slot.result_mbit, slot.hit, *slot.curves.values(), slot.cache]
        columns = [part[0].numpy() for part in (*parts, slot.steps_budget[..., None])]
        return np.concatenate(columns, axis=1, dtype=np.float32)

    def _allocator_view_space(self, cell: int) -> spaces.Box:
        world = self.world.scenario
        per_user = [
            _GAIN_DB[1],
            world.models - 1,
            world.upload_mb.high * MBIT_PER_MB,
            world.result_mb.high * MBIT_PER_MB,
        ]
        high = np.repeat([*per_user, 1, *world.largest_curve_constants], world.users)
        high = np.concatenate([high, np.ones(world.models), [world.steps_per_cell[cell]]]) * SLACK
        low = np.zeros(len(high))
        low[: world.users] = _GAIN_DB[0]
        return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
