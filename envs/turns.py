"""The provisioning world for any multi-agent library: a PettingZoo environment in which agents take turns.

It is in PettingZoo's agent-by-agent form (AEC), because in a parallel environment every agent alive acts in every step.
Training in edgegen runs on the batched simulator, which is far faster and in which the same happens:
:class:`edgegen.envs.provisioning.world.ProvisioningWorld`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from pettingzoo import AECEnv
from pettingzoo.utils.wrappers import OrderEnforcingWrapper

from edgegen.envs.core.agent_input import checked_option, chosen, numbers, shown, stream_seed
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import as_scenario
from edgegen.envs.provisioning.amenders import shares_from_raw
from edgegen.envs.provisioning.draws import MBIT_PER_MB
from edgegen.envs.provisioning.physics import SlotOutcome
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.world import CacheOutcome, ProvisioningWorld

_GAIN_DB = (-400.0, 100.0)  # gains are clipped to this; they are all but certain to lie inside
_SLACK = 1 + 1e-5  # upper bounds leave room for rounding in float32
_MOST_BITS = 20  # of a caching decision as one number


class ProvisioningTurns(AECEnv):  # type: ignore[misc]  # pettingzoo ships no types
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

    Between its turns an agent goes on seeing what it saw last. Upper bounds are a factor of 1.00001 wide, for rounding.

    ## Rewards

    An allocator gets, when a slot is served, minus the mean cost of its cell's users, G = α·delay + (1-α)·TV, and
    minus the penalty for late requests. A cacher gets, when a frame is over, the mean of these, minus the penalties
    for storage overflow and for fetching models.

    ## Starting State

    Empty caches. ``reset(seed=s)`` starts the first episode of the stream of s, ``reset()`` the next one of the same
    stream. Without any seed the stream is drawn from the operating system.

    ## Episode End

    Episodes are truncated, for all agents at once, after the last slot of the last frame. They never terminate.
    Cachers then see the frame that would follow.

    ## Infos

    Cachers, once their caches are filled: ``cache`` after the amender, ``overflow_gb`` before it, ``fetch_s``.
    Allocators, once a slot is served: means over the users ``cost``, ``tv``, ``delay_s`` and its parts ``uplink_s``,
    ``backhaul_s``, ``generation_s``, ``downlink_s``, shares of the users ``hit``, ``useless`` (hits with fewer steps
    than A1) and ``late``, and the ``steps`` of each user.

    Args:
        scenario: Name or path of a provisioning scenario, or a scenario.
        cache_action: ``"bits"`` or ``"index"``.
        render_mode: ``"ansi"`` returns a drawing of caches and delays from ``render()``; ``"human"`` prints it after
            every slot.

    Raises:
        InputError: If the scenario is unknown or of another kind, or an argument has no such value.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - the attribute and its type are PettingZoo's
        "name": "edgegen_provisioning_v0",
        "render_modes": ["ansi", "human"],
        "is_parallelizable": False,
    }

    def __init__(
        self,
        scenario: str | Path | ProvisioningScenario = "t2drl-default",
        cache_action: Literal["bits", "index"] = "bits",
        render_mode: str | None = None,
    ) -> None:
        checked_option("cache_action", cache_action, ("bits", "index"))
        checked_option("render_mode", render_mode, (*self.metadata["render_modes"], None))
        self.scenario = as_scenario(scenario, ProvisioningScenario)
        if cache_action == "index" and self.scenario.models > _MOST_BITS:
            raise InputError(
                f"cache_action is 'index' and the scenario has {self.scenario.models} models, but as one number a "
                f"caching decision can be about {_MOST_BITS} at most; use 'bits'."
            )
        self.render_mode = render_mode
        self._as_bits = cache_action == "bits"
        cells = range(self.scenario.cells)
        self._cachers, self._allocators = [f"cacher_{i}" for i in cells], [f"allocator_{i}" for i in cells]
        self.possible_agents = [*self._cachers, *self._allocators]
        self.agents: list[str] = []
        self._simulator = ProvisioningWorld(self.scenario)
        self._seeded = False
        self.agent_selection = self._cachers[0]
        models, users = self.scenario.models, self.scenario.users
        self.action_spaces: dict[str, spaces.Space[Any]] = {
            **{a: spaces.MultiBinary(models) if self._as_bits else spaces.Discrete(2**models) for a in self._cachers},
            **{agent: spaces.Box(-1, 1, (2 * users,), np.float32) for agent in self._allocators},
        }
        self.observation_spaces: dict[str, spaces.Box] = {
            **{agent: self._cacher_view_space(cell) for cell, agent in enumerate(self._cachers)},
            **{agent: self._allocator_view_space(cell) for cell, agent in enumerate(self._allocators)},
        }

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Return the observation space of an agent, the same object on every call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Return the action space of an agent, the same object on every call."""
        return self.action_spaces[agent]

    def observe(self, agent: str) -> np.ndarray:
        """Return what an agent saw on its last turn, or sees now if it is its turn."""
        return self._views[agent].copy()

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin an episode: the first of the seed's stream, or the next one if no seed is given.

        Raises:
            InputError: If the seed is no whole number, or negative.
        """
        del options
        self._simulator.reset(seed=stream_seed(seed, self._seeded))
        self._seeded = True
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
        self._skip_agent_selection = None  # PettingZoo's note of who was next before the dead stepped
        self._outcome: SlotOutcome | None = None
        nothing = {agent: np.zeros_like(self.observation_spaces[agent].low) for agent in self._allocators}
        self._views: dict[str, np.ndarray] = nothing
        self._begin_round()

    def step(self, action: Any) -> None:
        """Take the action of the agent whose turn it is; None for an agent whose episode is over.

        Raises:
            ValueError: If no episode is running.
            InputError: If the action is not one of the agent's.
        """
        if not self.agents:
            raise ValueError("no episode is running; call reset()")
        agent = self.agent_selection
        if self.truncations[agent]:
            self._was_dead_step(action)
            return
        cell = len(self._actions)
        caching = self._simulator.caching
        self._actions.append(self._bits(agent, action) if caching else self._raw(agent, action))
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        if cell + 1 < self.scenario.cells:
            self.agent_selection = (self._cachers if caching else self._allocators)[cell + 1]
            return
        actions = torch.from_numpy(np.stack(self._actions))[None]  # [1, C, …]
        if caching:
            self._tell_cachers(self._simulator.cache(actions))
        else:
            raw, hit = actions.chunk(2, dim=-1), self._simulator.observe_slot().hit
            shares = shares_from_raw(self.scenario.allocation_amender, raw[0], raw[1], hit)
            self._outcome = self._simulator.allocate(*shares)
            self._tell_allocators(self._outcome)
        self._begin_round()
        self._accumulate_rewards()
        if not caching and self.render_mode == "human":
            self.render()

    def render(self) -> str | None:
        """Draw caches and delays as text: returned in mode ``ansi``, printed in mode ``human``."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render_mode; make the environment with render_mode='ansi'.")
            return None
        state, outcome = self._simulator.state, self._outcome
        lines = [f"frame {state.frame} of {self.scenario.frames}, slot {state.slot} of {self.scenario.slots_per_frame}"]
        for cell, cached in enumerate(state.cache[0].tolist()):
            line = f"cell {cell} |{''.join('#' if bit else '.' for bit in cached)}|"
            if outcome is not None:
                means = (outcome.delays.total_s[0, cell].mean(), outcome.tv[0, cell].mean())
                line += f" {int(outcome.hit[0, cell].sum())} hits, {means[0]:.1f} s, TV {means[1]:.1f}"
            lines.append(line)
        picture = "\n".join(lines) + "\n"
        if self.render_mode == "human":
            sys.stdout.write(picture)
            return None
        return picture

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _begin_round(self) -> None:
        """Give the turn to the first cell, and the agents of the round something to see."""
        self._actions: list[np.ndarray] = []
        if self._simulator.caching or self._simulator.done:
            self.agent_selection = self._cachers[0]
            self._views |= dict(zip(self._cachers, self._cacher_views(), strict=True))
        else:
            self.agent_selection = self._allocators[0]
            self._views |= dict(zip(self._allocators, self._allocator_views(), strict=True))
        self.truncations = dict.fromkeys(self.agents, self._simulator.done)

    def _tell_cachers(self, outcome: CacheOutcome) -> None:
        for cell, agent in enumerate(self._cachers):
            self.infos[agent] = {
                "cache": outcome.cache[0, cell].int().tolist(),
                "overflow_gb": float(outcome.overflow_gb[0, cell]),
                "fetch_s": float(outcome.fetch_s[0, cell]),
            }

    def _tell_allocators(self, outcome: SlotOutcome) -> None:
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
        for cell, agent in enumerate(self._allocators):
            self.rewards[agent] = float(outcome.reward[0, cell])
            self.infos[agent] = {name: values[cell] for name, values in means.items()}
            self.infos[agent]["steps"] = outcome.steps[0, cell].int().tolist()
        if self._simulator.caching or self._simulator.done:  # that was the last slot of its frame
            reward = self._simulator.frame_reward()[0].tolist()
            self.rewards |= dict(zip(self._cachers, reward, strict=True))

    def _bits(self, agent: str, action: Any) -> np.ndarray:
        models = self.scenario.models
        if not self._as_bits:
            index = chosen(agent, action, 2**models, "a number")
            return np.array([index >> m & 1 for m in range(models)], dtype=bool)
        bits = numbers(action)
        if bits is None or bits.shape != (models,) or not np.isin(bits, (0, 1)).all():
            raise InputError(f"the action of {agent} is {shown(action)}, but must be {models} numbers 0 or 1.")
        return bits.astype(bool)

    def _raw(self, agent: str, action: Any) -> np.ndarray:
        width = 2 * self.scenario.users
        raw = numbers(action)
        if raw is None or raw.shape != (width,) or not (np.abs(raw) <= _SLACK).all():  # not a number is refused too
            raise InputError(
                f"the action of {agent} is {shown(action)}, but must be {width} finite numbers in [-1, 1]."
            )
        return raw.astype(np.float32)

    def _cacher_views(self) -> np.ndarray:
        frame = self._simulator.observe_frame()
        state = np.eye(len(self.scenario.skewness.states))[frame.skewness_state[0].numpy()]
        parts = (frame.previous_cache[0], frame.frequency[0], frame.size_gb[0], frame.storage_gb[0, :, None])
        return np.concatenate([state, *(part.numpy() for part in parts)], axis=1, dtype=np.float32)

    def _cacher_view_space(self, cell: int) -> spaces.Box:
        fractions = len(self.scenario.skewness.states) + 2 * self.scenario.models
        sizes = [self.scenario.largest_size_gb] * self.scenario.models
        high = np.array([1.0] * fractions + sizes + [self.scenario.storage_per_cell_gb[cell]])
        return spaces.Box(np.zeros(len(high), np.float32), (high * _SLACK).astype(np.float32), dtype=np.float32)

    def _allocator_views(self) -> np.ndarray:
        slot = self._simulator.observe_slot()
        gain_db = (10 * slot.gain.log10()).clamp(*_GAIN_DB)
        parts = [gain_db, slot.model, slot.upload_mbit, slot.result_mbit, slot.hit, *slot.curves.values(), slot.cache]
        columns = [part[0].numpy() for part in (*parts, slot.steps_budget[..., None])]
        return np.concatenate(columns, axis=1, dtype=np.float32)

    def _allocator_view_space(self, cell: int) -> spaces.Box:
        world = self.scenario
        per_user = [
            _GAIN_DB[1],
            world.models - 1,
            world.upload_mb.high * MBIT_PER_MB,
            world.result_mb.high * MBIT_PER_MB,
        ]
        high = np.repeat([*per_user, 1, *world.largest_curve_constants], world.users)
        high = np.concatenate([high, np.ones(world.models), [world.steps_per_cell[cell]]]) * _SLACK
        low = np.zeros(len(high))
        low[: world.users] = _GAIN_DB[0]
        return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)


def raw_env(**kwargs: Any) -> ProvisioningTurns:
    """Make the environment; arguments are those of :class:`ProvisioningTurns`."""
    return ProvisioningTurns(**kwargs)


def env(**kwargs: Any) -> AECEnv:
    """Make the environment with PettingZoo's checks of the order of calls; arguments as for ``raw_env``."""
    return OrderEnforcingWrapper(raw_env(**kwargs))
