# SPDX-License-Identifier: Apache-2.0
"""RLlib's own PPO on the offloading world: one policy shared by all servers, as a reference from outside.

Nothing of PPO is ours. The world reaches it through the PettingZoo facade, with the state scaled and without the turns
of servers that have nothing to place. It sees what ``least-delay`` sees: backlogs at the start of the slot, and what a
server has placed itself in the slot. The settings are usual ones, not tuned.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import torch
from pydantic import Field, ValidationError
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_LEARNER_GROUP, COMPONENT_RL_MODULE
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
from ray.tune.registry import register_env
from torch import Tensor

from edgegen.algorithms.core.catalog import CHECKPOINT_PREFIX, checkpoints, latest_checkpoint
from edgegen.algorithms.core.policy import Memory, Policy, sample_shares
from edgegen.envs.core.errors import from_validation
from edgegen.envs.core.fields import Batch, Count, Frozen, NonNegative, Positive, Probability, Share, StepSize, Width
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.offloading.agents import TASKS_LEFT
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.view import ROUTER, RouterView
from edgegen.envs.pettingzoo import RoundsEnv
from edgegen.platform.files import write_json
from edgegen.platform.studies.streams import training_arrivals_seed

ENV = "edgegen-offloading-scaled-v0"
MODULE_ID = "shared"
PROGRESS_FILE = "progress.json"
GENERATORS_FILE = "generators.pt"
KEPT_CHECKPOINTS = 2


class PPOSettings(Frozen):
    """Settings of PPO; what is not named here is RLlib's default.

    Attributes:
        hidden: Width of the two hidden layers.
        lr: Adam step size.
        gamma: Discount per task, as LAD-TS has it.
        gae_lambda: λ of the advantage estimates.
        clip: Clip range of the probability ratio.
        entropy: Weight of the entropy bonus.
        minibatch: Decisions per update.
        epochs: Passes over the decisions of a batch: the fewest whole episodes with ``minibatch`` rounds in all.
        reward_scale: Factor on the reward −T_serv, so that values of an overloaded world stay near one.
    """

    hidden: Width = 64
    lr: StepSize = 3e-4
    gamma: Probability = 0.95
    gae_lambda: Share = 0.95
    clip: Positive = 0.2
    entropy: NonNegative = 0.01
    minibatch: Batch = 2048
    epochs: Annotated[Count, Field(le=1000)] = 4
    reward_scale: Positive = 0.1


def make_settings(preset: str = "stock", overrides: dict[str, Any] | None = None) -> PPOSettings:
    """Return the settings with some fields replaced; there is one preset.

    Raises:
        InputError: If a field is unknown or a value is impossible.
    """
    del preset
    try:
        return PPOSettings(**(overrides or {}))
    except ValidationError as error:
        raise from_validation(error, "PPO settings", PPOSettings.model_fields) from None


def scaled(vector: Tensor, scenario: OffloadingScenario) -> Tensor:
    """Scale observations of the facade ``[..., 4 + 4B]``: tasks and servers to [0, 1], queues to log1p of slots.

    What a server has placed itself counts B times, for the others do likewise.
    """
    servers = vector.shape[-1] // 4 - 1
    task, backlog, placed, capacity, rate = torch.split(vector, [4, *(servers,) * 4], dim=-1)
    top = vector.new_tensor(
        [scenario.size_mbit.high, scenario.max_workload_gcycles, scenario.result_mbit.high, scenario.max_tasks]
    )
    per_slot = capacity * scenario.slot_s
    return torch.cat(
        [
            task / top,
            torch.log1p(backlog / per_slot),
            torch.log1p(servers * placed / per_slot),
            capacity / capacity.amax(-1, keepdim=True),
            rate / rate.amax(-1, keepdim=True),
        ],
        dim=-1,
    )


class ScaledOffloading(ParallelPettingZooEnv):  # type: ignore[misc]  # Ray has no types
    """The facade for RLlib, with scaled states, on the very arrivals that the other learners of a seed train on.

    A server without a task is not asked. Its reward for the task before waits for its next turn.

    Args:
        env_config: ``scenario`` as plain values, ``seed``, ``reward_scale``, and ``first_episode``, the number of the
            episode to begin with.

    Attributes:
        delays_s: Mean service delay of every finished episode, s.
    """

    def __init__(self, env_config: dict[str, Any]) -> None:
        self.scenario = build_scenario(dict(env_config["scenario"]))
        super().__init__(RoundsEnv(self.scenario, observation="vector"))
        size = 4 + 4 * self.scenario.servers
        box = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.observation_spaces: dict[str, gym.Space[Any]] = dict.fromkeys(self.possible_agents, box)
        self.observation_space = gym.spaces.Dict(self.observation_spaces)
        self.action_spaces = {agent: self.par_env.action_space(agent) for agent in self.possible_agents}
        self._seed: int | None = training_arrivals_seed(env_config["seed"])
        self._skip = int(env_config["first_episode"])
        self._scale = float(env_config["reward_scale"])
        self.delays_s: list[float] = []
        self._sum_s, self._tasks = 0.0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin the next episode of the stream, whatever seed RLlib would like."""
        observations, infos = self.par_env.reset(seed=self._seed)
        self._seed = None
        for _ in range(self._skip):
            observations, infos = self.par_env.reset()
        self._skip = 0
        self._sum_s, self._tasks = 0.0, 0
        return self._shown(observations, infos), {}

    def step(self, action_dict: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Place the waiting tasks; only servers that have another one are asked again."""
        observations, rewards, _, truncations, infos = self.par_env.step(action_dict)
        for info in infos.values():
            if "delay_s" in info:
                self._sum_s += info["delay_s"]
                self._tasks += 1
        over = all(truncations.values())
        if over:
            self.delays_s.append(self._sum_s / self._tasks)
        shown = self._shown(observations, {} if over else infos)
        earned = {agent: self._scale * reward for agent, reward in rewards.items() if "delay_s" in infos[agent]}
        return shown, earned, {"__all__": False}, {"__all__": over}, {}

    def _shown(self, observations: dict[str, Any], infos: dict[str, Any]) -> dict[str, Any]:
        """Scaled observations of the servers that have a task; of all of them without infos, at the end."""
        agents = [agent for agent in observations if not infos or observations[agent][TASKS_LEFT] > 0]
        if not agents:
            agents = list(observations)[:1]  # a slot without any task: somebody has to turn the page
        size = 4 + 4 * self.scenario.servers  # what least-delay sees; the age of reports, which may follow, it does not
        stacked = torch.from_numpy(np.stack([observations[agent][:size] for agent in agents]))
        return dict(zip(agents, scaled(stacked, self.scenario).numpy(), strict=True))


class PPOPolicy(Policy):
    """A trained RLModule of PPO behind the interface of all policies; a slot's tasks are placed one after the other."""

    name = "ppo"
    roles = frozenset({ROUTER})
    information = "slot-start backlogs, own placements in the slot"

    def __init__(self, module: RLModule, scenario: OffloadingScenario, seed: int = 0) -> None:
        super().__init__(seed)
        self.module = module
        self.scenario = scenario

    @torch.no_grad()
    def act(self, role: str, view: RouterView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        tasks = view.tasks
        copies, servers, width = tasks.present.shape
        count = tasks.present.sum(-1)
        placed = view.backlog_gcycles.new_zeros(copies, servers, servers)
        chosen = torch.zeros_like(tasks.present, dtype=torch.long)
        backlog, capacity, rate = (  # rates may be per link: a row for every server already
            (values if values.dim() == 3 else values[:, None]).expand(-1, servers, -1)
            for values in (view.backlog_gcycles, view.capacity_gcycles_s, view.rate_mbit_s)
        )
        for n in range(width):
            task = tasks.at_index(n)
            one = [task.size_mbit, task.workload_gcycles, task.result_mbit, (count - n).clamp_min(0)]
            vector = torch.cat([torch.stack(one, -1).to(placed), backlog, placed, capacity, rate], -1)
            state = scaled(vector, self.scenario)
            out = self.module.forward_inference({Columns.OBS: state.flatten(0, 1)})
            logits = out[Columns.ACTION_DIST_INPUTS]
            if explore:
                server = sample_shares(logits.softmax(-1), self.random((copies * servers, 1), logits))[:, 0]
            else:
                server = logits.argmax(-1)
            chosen[..., n] = server.view(copies, servers)
            work = task.workload_gcycles * task.present
            placed.scatter_add_(-1, chosen[..., n : n + 1], work[..., None])
        return chosen, memory


def train_ppo(
    scenario: OffloadingScenario,
    settings: PPOSettings,
    episodes: int,
    seed: int,
    folder: Path,
    checkpoint_every: int,
    on_episode: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train PPO, or go on from the latest checkpoint in the folder; Ray must be running.

    Args:
        scenario: The world.
        settings: Settings.
        episodes: Episodes in total; the policy is updated after each.
        seed: Root of every generator.
        folder: Where checkpoints go.
        checkpoint_every: Episodes between checkpoints; there is always one at the end.
        on_episode: Called after every episode with their number and the last one's mean delay, s.

    Returns:
        The mean service delay of every training episode, s; a few more than asked for where batches are larger.
    """
    checkpoint = latest_checkpoint(folder)
    delays: list[float] = []
    if checkpoint is not None:
        delays = json.loads((checkpoint / PROGRESS_FILE).read_text(encoding="utf-8"))["delay_mean_s"]
    algorithm = _config(scenario, settings, seed, len(delays)).build_algo()
    try:
        if checkpoint is not None:
            algorithm.restore_from_path(str((checkpoint / "algorithm").resolve()))
            _restore_generators(checkpoint / GENERATORS_FILE)
        else:
            _seed_generators(seed)
        saved = len(delays)
        while len(delays) < episodes:
            algorithm.train()
            delays += _pop_delays(algorithm)
            if on_episode is not None:
                on_episode(len(delays), delays[-1])
            if len(delays) - saved >= checkpoint_every or len(delays) >= episodes:
                _save(algorithm, folder, delays)
                saved = len(delays)
        return delays
    finally:
        algorithm.stop()


def export_ppo(run: Path, folder: Path) -> None:
    """Copy the policy of the latest checkpoint that :func:`train_ppo` left to a folder of its own."""
    checkpoint = latest_checkpoint(run)
    if checkpoint is None:
        raise FileNotFoundError(run)
    parts = (COMPONENT_LEARNER_GROUP, COMPONENT_LEARNER, COMPONENT_RL_MODULE, MODULE_ID)
    shutil.copytree((checkpoint / "algorithm").joinpath(*parts), folder)


def load_ppo(folder: Path, scenario: OffloadingScenario) -> PPOPolicy:
    """Load a policy that :func:`export_ppo` wrote; Ray need not run."""
    return PPOPolicy(RLModule.from_checkpoint(str(folder.resolve())), scenario)


def _config(scenario: OffloadingScenario, settings: PPOSettings, seed: int, first_episode: int) -> PPOConfig:
    register_env(ENV, ScaledOffloading)
    env_config = {
        "scenario": scenario.model_dump(mode="json"),
        "seed": seed,
        "reward_scale": settings.reward_scale,
        "first_episode": first_episode,
    }
    return (
        PPOConfig()
        .environment(ENV, env_config=env_config, disable_env_checking=True)
        .multi_agent(policies={MODULE_ID}, policy_mapping_fn=lambda agent_id, episode, **kwargs: MODULE_ID)
        .env_runners(num_env_runners=0, batch_mode="complete_episodes")
        .rl_module(model_config={"fcnet_hiddens": [settings.hidden] * 2, "fcnet_activation": "tanh"})
        .training(
            lr=settings.lr,
            gamma=settings.gamma,
            lambda_=settings.gae_lambda,
            clip_param=settings.clip,
            vf_clip_param=float("inf"),
            use_kl_loss=False,  # its coefficient adapts, and checkpoints lack it
            entropy_coeff=settings.entropy,
            train_batch_size_per_learner=settings.minibatch,  # at least; a batch is made of complete episodes
            minibatch_size=settings.minibatch,
            num_epochs=settings.epochs,
        )
        .debugging(seed=seed, log_level="ERROR")
    )


def _pop_delays(algorithm: Algorithm) -> list[float]:
    """Take what the world has noted of the episodes since the last call."""
    (env,) = algorithm.env_runner.env.envs
    world: ScaledOffloading = env.unwrapped
    delays, world.delays_s = world.delays_s, []
    return delays


def _save(algorithm: Algorithm, folder: Path, delays: list[float]) -> None:
    """Write a checkpoint that appears whole or not at all, and drop the oldest ones."""
    target = folder / f"{CHECKPOINT_PREFIX}{len(delays):06d}"
    temporary = folder / f".{target.name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    algorithm.save_to_path(str((temporary / "algorithm").resolve()))
    write_json(temporary / PROGRESS_FILE, {"delay_mean_s": delays})
    state = np.random.get_state(legacy=False)  # noqa: NPY002 - RLlib draws from it
    torch.save(
        {"torch": torch.get_rng_state(), "numpy": state, "python": random.getstate()}, temporary / GENERATORS_FILE
    )
    temporary.replace(target)
    for old in checkpoints(folder)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old, ignore_errors=True)


def _seed_generators(seed: int) -> None:
    """RLlib draws from the process's own generators, so these are part of the run."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def _restore_generators(path: Path) -> None:
    state = torch.load(path, weights_only=False)
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
