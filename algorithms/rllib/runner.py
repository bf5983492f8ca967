"""An env runner over a batched simulator: RLlib's contract, without its episodes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

import gymnasium as gym
import numpy as np
import ray
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

WORLD = "world"
"""Component of the state: everything but the weights that decides what the runner samples next."""

EPISODES_BEGUN = "episodes_begun"
"""In the state of a world, where exploration depends on it: episodes this runner has begun."""

Spaces = tuple[gym.Space[Any], gym.Space[Any]]


class ArrayEnvRunner(EnvRunner, Checkpointable):
    """Plays E copies of a batched simulator and returns tensors.

    Every worker has arrivals of its own, derived from (seed, worker, evaluation or not). Subclasses build their world
    in ``make_env``, play it in ``play_round``, and report episodes with ``finish_episodes``.

    Attributes:
        rounds_per_episode: Rounds of an episode; a round is what is played at least: a slot, or a frame.
        slots_per_round: Slots of a round.
        simulator: The batched simulator.
        policy: What plays it; owns the generator of its decisions.
        admitted: Whether this process takes part in the training; a new one in the place of one that died does not
            until it was told how far the others are.
    """

    rounds_per_episode: int
    slots_per_round: int
    simulator: Any
    policy: Any

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.arrivals_seed, self.policy_seed = self._seeds()
        self.admitted = False
        self._weights_seq_no = 0
        self._episodes: list[dict[str, float]] = []
        self._steps_since_metrics = (0, 0)
        self.make_module()
        self.make_env()

    def _seeds(self, *life: int) -> tuple[int, int]:
        """Seeds of the arrivals and of the decisions; a runner that begins anew has others in every life."""
        identity = (int(self.config.seed or 0), int(self.worker_index or 0), int(self.config.in_evaluation), *life)
        arrivals, decisions = np.random.SeedSequence(identity).generate_state(2)
        return int(arrivals), int(decisions)

    @abstractmethod
    def module_spaces(self) -> dict[str, Spaces]:
        """Spaces of observation and action of every module."""

    @abstractmethod
    def get_world_state(self) -> dict[str, Any]:
        """Everything but the weights that decides what the runner samples next."""

    @abstractmethod
    def set_world_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_world_state`` was called."""

    @property
    @abstractmethod
    def rounds_played(self) -> int:
        """Rounds of the present episode that are over."""

    @abstractmethod
    def play_round(self, explore: bool) -> Any:
        """Play one round in all copies and return its transitions."""

    @abstractmethod
    def join(self, rounds: list[Any]) -> list[Any]:
        """Join the transitions of rounds, in order of time; one fragment for each stretch that fits together."""

    def reset_arrivals(self, seed: int) -> None:
        """Begin episodes whose arrivals come from another seed."""
        self.simulator.reset(seed)

    @abstractmethod
    def begin_anew(self) -> None:
        """Leave the present episodes and begin the next ones."""

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
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
            rounds = self.rounds_per_episode * -(-num_episodes // copies) - self.rounds_played
        elif num_timesteps is not None:
            rounds = -(-int(num_timesteps) // (copies * self.slots_per_round))
        else:
            rounds = int(self.config.rollout_fragment_length)
        return self.join([self.play_round(explore) for _ in range(max(1, rounds))])

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

    def get_spaces(self) -> dict[str, Spaces]:
        """Spaces by module, and any for the environment, as RLlib asks for them."""
        spaces = self.module_spaces()
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
        state: dict[str, Any] = {WEIGHTS_SEQ_NO: self._weights_seq_no}
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
            self._weights_seq_no = state.get(WEIGHTS_SEQ_NO, self._weights_seq_no)
            for name, weights in modules.items():
                self.module[name].set_state(weights)
        if WORLD in state:
            world = dict(state[WORLD])
            self._episodes = list(world.pop("episodes"))
            self.set_world_state(world)

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments that rebuild this runner."""
        return (), {"config": self.config, "worker_index": self.worker_index}
