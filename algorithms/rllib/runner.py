# SPDX-License-Identifier: Apache-2.0
"""An env runner over a batched simulator: RLlib's contract, without its episodes."""

from __future__ import annotations

import copy
from typing import Any, cast

import numpy as np
import ray
import torch
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import (
    EPISODE_RETURN_MEAN,
    NUM_AGENT_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    WEIGHTS_SEQ_NO,
)

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.rllib.private import seeding_lightly
from edgegen.algorithms.rllib.role import Following, Learning, Notes, RoleLearner
from edgegen.algorithms.rllib.rollout import Fragment, JointFragment, joined
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.world import World

WORLD = "world"
"""Component of the state: everything but the weights that decides what the runner samples next."""

EPISODES_BEGUN = "episodes_begun"
"""In the state of a world, where exploration depends on it: episodes this runner has begun."""


class JointEnvRunner(EnvRunner, Checkpointable):
    """Plays E copies of a world, all roles of it, and returns tensors.

    A round begins with the turn of the slowest role and holds all turns up to its next one. Where there are faster
    roles, a round ends with the next decision of the slowest: their last transition already has it in its next state,
    and the slowest has not yet learned from the round.

    Every worker has arrivals of its own, derived from (seed, worker, evaluation or not).

    Attributes:
        learning: The method in training.
        simulator: The world being played; one of several that take turns.
        policy: What plays it; owns the generator of its decisions.
        memory: What the policy remembers. It is kept across episodes, as in the published code of LAD-TS.
        admitted: Whether this process takes part in the training; a new one in the place of one that died does not
            until it was told how far the others are.
        player: What plays in asynchronous training; None in synchronous training.
    """

    player: Any = None

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        with seeding_lightly():
            super().__init__(config=config, **kwargs)
        self.learning: Learning = config.learning()
        self.settings = self.learning.settings
        self.arrivals_seed, self.policy_seed = self._seeds()
        self.admitted = False
        self.weights_seq_no = 0
        self._episodes: list[dict[str, float]] = []
        self._steps_since_metrics = (0, 0)
        self._episodes_begun = 0
        self.make_module()
        self.make_env()

    def make_env(self) -> None:
        """Create the batched worlds, and the policy that plays them."""
        self.scenarios = self.learning.worlds
        self._kind = kind_of(self.learning.scenario)
        self.simulators: list[World] = [self._kind.world(scenario, self.settings.copies) for scenario in self.scenarios]
        module = cast(Any, self.module)
        roles = self.learning.roles
        networks = {name: getattr(module[name], role.deciding) for name, role in roles.items()}
        self.policy: Any = self.learning.policy(networks, self.policy_seed)
        self.reset_arrivals(self.arrivals_seed)
        self._enter(0)
        self._begin_episode()
        self._forget()

    def _forget(self) -> None:
        """Let every role begin with a fresh memory at its next turn."""
        self.memory: Memory = {}
        self._begun: set[str] = set()

    def _enter(self, turn: int) -> None:
        """Go on in one of the worlds."""
        self._turn = turn
        self.simulator = self.simulators[turn]
        self.learning.enter(self.policy, self.scenarios[turn])

    def _begin_episode(self) -> None:
        self._seen: Any = None
        self._log = self.learning.log_class(self.simulator, self.settings)
        self._notes: dict[str, list[Notes]] = {name: [] for name in self.learning.roles}

    def _learner_of(self, role: str) -> RoleLearner:
        """What learns a role turn by turn: this runner plays no other."""
        return cast(RoleLearner, self.learning.roles[role])

    @property
    def _slowest(self) -> str:
        return next(reversed(self.learning.roles))

    @property
    def rounds_played(self) -> int:
        """Rounds of the present episode that are over."""
        return self.simulator.round

    @property
    def episodes_begun(self) -> int:
        """Episodes begun so far over all runners, as if all had begun as many."""
        return self._episodes_begun * max(1, int(self.config.num_env_runners))

    def assert_healthy(self) -> None:
        """Raise if the runner can not sample."""
        if not all(torch.isfinite(total).all() for total in self._log.sums.values()):
            raise RuntimeError("what was measured of the episodes is not finite")

    def _seeds(self, *life: int) -> tuple[int, int]:
        """Seeds of the arrivals and of the decisions; a runner that begins anew has others in every life."""
        identity = (int(self.config.seed or 0), int(self.worker_index or 0), int(self.config.in_evaluation), *life)
        arrivals, decisions = np.random.SeedSequence(identity).generate_state(2)
        return int(arrivals), int(decisions)

    def reset_arrivals(self, seed: int) -> None:
        """Begin episodes in every world whose arrivals come from another seed."""
        for simulator in self.simulators:
            simulator.reset(seed)

    def begin_anew(self) -> None:
        """Leave the present episodes and begin the next ones."""
        self.simulator.reset()
        self._begin_episode()

    def _observe(self) -> Any:
        """What can be known on the present turn: it ends one transition and begins the next, and is looked at once."""
        if self._seen is None:
            self._seen = self.simulator.observe()
        return self._seen

    def play_round(self, explore: bool) -> JointFragment:
        """Play one round in all copies and return its transitions."""
        world, slowest = self.simulator, self._slowest
        slots = decisions = 0

        def decide() -> None:
            nonlocal slots, decisions
            played, decided = self._decide(explore)
            slots, decisions = slots + played, decisions + decided

        if not self._notes[slowest]:
            decide()
        while world.turn not in (None, slowest):
            decide()
        fragments = {slowest: self._transitions(slowest, self._observe())}
        if world.turn is None:
            faster = {name: self._transitions(name, None) for name in self.learning.roles if name != slowest}
            self._finish_episode()
        elif len(self.learning.roles) > 1:
            decide()
            faster = {name: self._transitions(name, self._observe()) for name in self.learning.roles if name != slowest}
        else:
            faster = {}
        self.count_steps(slots, decisions)
        return JointFragment({**faster, **fragments}, slots, self.settings.copies)

    def _decide(self, explore: bool) -> tuple[int, int]:
        """Take one turn; returns slots, summed over copies, and decisions that it was."""
        world = self.simulator
        role = world.turn
        assert role is not None  # a turn is only taken where one is due
        if role == self._slowest:
            training = explore and not self.config.in_evaluation
            self.learning.explore(self.policy, self.episodes_begun, training)
        view = self._observe()
        if role not in self._begun:
            self.memory |= self.policy.begin(role, view)
            self._begun.add(role)
        decided = self.policy.decide(role, view, self.memory, explore)
        self.memory = decided.memory
        self._outcome = world.decide(decided.action)
        self._seen = None
        self._notes[role].append(self._learner_of(role).noted(view, decided.record, self._outcome))
        return self._log.add(role, self._outcome)

    def _transitions(self, role: str, view: Any) -> Fragment:
        """Make the transitions of a role's decisions in the round, and forget them."""
        notes, self._notes[role] = self._notes[role], []
        done = self.simulator.turn is None
        following = Following(view, done, self._outcome, self.policy, self.memory)
        self._log.settle(role, notes, following)
        return self._learner_of(role).transitions(notes, following)

    def _finish_episode(self) -> None:
        self.finish_episodes(*self._log.report())
        self._episodes_begun += self.settings.copies
        if len(self.simulators) == 1:
            self.begin_anew()
            return
        self.simulator.reset()
        self._enter((self._turn + 1) % len(self.simulators))
        self._begin_episode()
        self._forget()

    def get_world_state(self) -> dict[str, Any]:
        """Everything but the weights that decides what the runner samples next."""
        return {
            "simulators": [simulator.state_dict() for simulator in self.simulators],
            "turn": self._turn,
            "memory": {name: value.clone() for name, value in self.memory.items()},
            "begun": sorted(self._begun),
            "generator": self.policy.generator.get_state(),
            "notes": copy.deepcopy(self._notes),
            "sums": {name: value.clone() for name, value in self._log.sums.items()},
            EPISODES_BEGUN: self._episodes_begun,
        }

    def set_world_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_world_state`` was called."""
        for simulator, saved in zip(self.simulators, state["simulators"], strict=True):
            simulator.load_state_dict(saved)
        self._enter(state["turn"])
        self._begin_episode()
        self.memory = {name: value.clone() for name, value in state["memory"].items()}
        self._begun = set(state["begun"])
        self.policy.generator.set_state(state["generator"])
        self._notes = copy.deepcopy(state["notes"])
        self._log.sums = {name: value.clone() for name, value in state["sums"].items()}
        self._episodes_begun = state[EPISODES_BEGUN]

    def kept_memory(self) -> Memory:
        """What of the memory belongs to the trained policy: that of the first copy."""
        return cast(Memory, self.policy.kept(self.memory))

    def take_memory(self, kept: Memory) -> None:
        """Begin every copy with what belongs to a trained policy (evaluation workers do)."""
        self.policy.take(kept)
        self._forget()

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
        **kwargs: Any,
    ) -> list[JointFragment]:
        """Play some rounds.

        Args:
            num_timesteps: Slots to play, summed over copies, rounded up to rounds; ``rollout_fragment_length`` rounds
                of every copy if None.
            num_episodes: Episodes to finish instead, summed over copies.
            explore: Whether the policy explores; the config decides if None.
            random_actions: Not supported: untrained policies begin at random by themselves.
            force_reset: Begin new episodes first.
            **kwargs: Ignored, for compatibility with later RLlib versions.

        Returns:
            Fragments with the transitions of all rounds; more than one if worlds of several sizes take turns.
        """
        if random_actions:
            raise ValueError("random_actions is not supported: an untrained policy begins at random by itself")
        explore = bool(self.config.explore if explore is None else explore)
        if force_reset and self.rounds_played > 0:
            self.begin_anew()
        copies = self.simulator.copies
        if num_episodes is not None:
            rounds = self._kind.rounds(self.simulator.scenario) * -(-num_episodes // copies) - self.rounds_played
        elif num_timesteps is not None:
            rounds = -(-int(num_timesteps) // (copies * self._kind.slots_per_round(self.simulator.scenario)))
        else:
            rounds = int(self.config.rollout_fragment_length)
        return joined([self.play_round(explore) for _ in range(max(1, rounds))])

    def admit(self) -> None:
        """Take part in the training from now on."""
        self.admitted = True

    def take_over(self, world: dict[str, Any], life: int) -> None:
        """Begin an episode as far in the training as another runner is, with arrivals that nobody has met.

        For a runner that was lost and is back, or that is new in a resumed training: all it remembered is gone, and
        exploration would begin once more.

        Args:
            world: ``get_world_state`` of the other runner, between two episodes.
            life: Number of this beginning.
        """
        self.set_world_state(world)
        arrivals, decisions = self._seeds(life)
        self.policy.generator.manual_seed(decisions)
        self.reset_arrivals(arrivals)
        self.set_world_state(self.get_world_state())  # looks at the new episode

    def make_module(self) -> None:
        """Create the inference parts of the modules."""
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module = cast(MultiRLModule, spec.build())

    def get_spaces(self) -> dict[str, Any]:
        """Spaces by module, and any for the environment, as RLlib asks for them."""
        spaces = {name: tuple(role.spaces) for name, role in self.learning.roles.items()}
        some = next(iter(spaces.values()))
        return {INPUT_ENV_SPACES: some, INPUT_ENV_SINGLE_SPACES: some, **spaces}

    def stop(self) -> None:
        """Nothing to release."""

    def count_steps(self, slots: int, decisions: int) -> None:
        """Count slots and decisions for the metrics."""
        before = self._steps_since_metrics
        self._steps_since_metrics = (before[0] + slots, before[1] + decisions)

    def finish_episodes(self, episodes: list[dict[str, float]], returns: list[float]) -> None:
        """Report finished episodes, one mapping and one return each."""
        self._episodes += episodes
        for episode, total in zip(episodes, returns, strict=True):
            for name, value in episode.items():
                self.metrics.log_value(f"episode_{name}", value, window=10)
            self.metrics.log_value(EPISODE_RETURN_MEAN, total, window=10)
        self.metrics.log_value(NUM_EPISODES, len(episodes), reduce="sum")

    def pop_episodes(self) -> list[dict[str, float]]:
        """Return and forget what was reported of episodes since the last call."""
        episodes, self._episodes = self._episodes, []
        return episodes

    def get_metrics(self) -> Any:
        """Return the metrics since the last call."""
        slots, decisions = self._steps_since_metrics
        self._steps_since_metrics = (0, 0)
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED, slots, reduce="sum")
        self.metrics.log_value(NUM_AGENT_STEPS_SAMPLED, decisions, reduce="sum")
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, slots, reduce="lifetime_sum")
        return self.metrics.reduce()

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Weights and world."""
        state: dict[str, Any] = {WEIGHTS_SEQ_NO: self.weights_seq_no}
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = {
                name: module.get_state(inference_only=True) for name, module in self.module.items()
            }
        if self._check_component(WORLD, components, not_components):
            state[WORLD] = {**self.get_world_state(), "episodes": list(self._episodes)}
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over weights, and the world if the state holds one."""
        if COMPONENT_RL_MODULE in state:
            modules = state[COMPONENT_RL_MODULE]
            if isinstance(modules, ray.ObjectRef):  # The runner group puts shared weights into the object store once.
                modules = ray.get(modules)
            self.weights_seq_no = state.get(WEIGHTS_SEQ_NO, self.weights_seq_no)
            for name, weights in modules.items():
                self.module[name].set_state(weights)
        if WORLD in state:
            world = dict(state[WORLD])
            self._episodes = list(world.pop("episodes"))
            self.set_world_state(world)

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments that rebuild this runner."""
        return (), {"config": self.config, "worker_index": self.worker_index}
