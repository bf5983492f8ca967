# SPDX-License-Identifier: Apache-2.0
"""Every knob of allocators, with its source."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgegen.algorithms.roles.settings import CellSettings
from edgegen.envs.core.fields import Batch, Count, Flag, NonNegative, Positive, Share, StepSize, Updates, Whole, Width


class AllocatorSettings(CellSettings):
    """Settings of allocators: DDPG, with a diffusion actor or a plain one.

    The form of D3PG is that of arXiv 2507.20524; all numbers are our choice.

    Attributes:
        actor: ``diffusion`` (D3PG) or ``mlp``, a plain network with tanh (DDPG).
        network: ``mlp`` sees all users at once, ``set`` sees them one by one with the mean over all of them, so that
            what it learns of one user holds for every other.
        comparisons: With ``network: set``, orders in which the actor's hidden layers after the first compare every
            user with all others.
        hidden: Width of the hidden layers of actor and critic.
        hidden_layers: Their number.
        denoising_steps: Steps L of the actor's chain.
        step_embedding: What the noise network is told of the step it is at: ``sinusoidal``, 16 sines and cosines of its
            number; ``mlp``, these through two layers of their own, as in the public code AGOD.
        beta_min: Start of the variance schedule.
        beta_max: End of the variance schedule.
        epsilon_output: Output of the noise network; ``tanh`` as in arXiv 2507.20524.
        clip_denoised: Clip the chain's estimates of x_0 to [-1, 1], as in the code GDMOPT.
        squash: How the chain's end becomes an action in [-1, 1].
        action_penalty: Weight of the mean square of actions before they are squashed, in the actor's loss. Where the
            critic is indifferent, it keeps them from the flat ends of the squash, out of which no gradient leads.
        chain_noise: Draw noise between the chain's steps.
        exploration_noise: Standard deviation of the noise on raw computing, and on the logarithm of bandwidth, while
            training.
        critic_target: ``mean``: one value, of the mean reward. ``per_user``: one of each user's own cost; their mean
            is the critic's value. Every slot is then N lessons instead of one.
        critic_shares: The critic sees, beside the raw action, the shares that the amender makes of it.
        search_weight: Weight of a loss that draws the computing shares towards the best, by the critic, of the actions
            in which only the k hits with the largest shares get any, k = 1..N. Between an equal share for everybody and
            nothing for one of them lies a plateau, which no gradient crosses.
        search_rows: Slots of a batch in which it is searched.
        actor_lr: Adam step size of the actor.
        critic_lr: Adam step size of the critic.
        lr_hold_episodes: Episodes before the step sizes of actor and critic begin to fall.
        lr_fall_episodes: Episodes over which they fall, linearly; None keeps them.
        lr_end: Fraction of them that is left.
        reward_baseline: ``equal_shares``: the allocator's reward is what a user's cost is lower than with equal shares
            in the same slot. Allocation changes nothing after its slot, so the best allocation is the same.
        replay_capacity: Slots kept per learner.
        replay_warmup: Updates of the allocator begin when every learner holds more than this.
        batch_size: Slots per update.
        updates_per_slot: Updates of the allocator per sampled slot of one copy.
        serve_some: Share of training slots in which only a random number of random users get any computing.
        request_code: How the allocator sees the requested models.
        see_cache: The allocator sees what is cached.
        see_curves: The allocator sees the curve of each requested model.
        user_order: Order in which the allocator sees its users.
    """

    actor: Literal["diffusion", "mlp"] = "diffusion"
    network: Literal["mlp", "set"] = "mlp"
    comparisons: Annotated[Whole, Field(le=100)] = 0
    hidden: Width = 256
    hidden_layers: Annotated[Count, Field(le=8)] = 3
    denoising_steps: Annotated[Count, Field(le=100)] = 5
    step_embedding: Literal["sinusoidal", "mlp"] = "sinusoidal"
    beta_min: Positive = 0.1
    beta_max: Positive = 10.0
    epsilon_output: Literal["tanh", "linear"] = "tanh"
    clip_denoised: Flag = True
    squash: Literal["clamp", "tanh"] = "clamp"
    action_penalty: NonNegative = 0.0
    chain_noise: Flag = True
    exploration_noise: NonNegative = 0.0
    critic_target: Literal["mean", "per_user"] = "mean"
    critic_shares: Flag = False
    search_weight: NonNegative = 0.0
    search_rows: Batch = 16
    actor_lr: StepSize = 1e-4
    critic_lr: StepSize = 1e-3
    lr_hold_episodes: Whole = 0
    lr_fall_episodes: Count | None = None
    lr_end: Annotated[Positive, Field(le=1)] = 1.0
    reward_baseline: Literal["none", "equal_shares"] = "none"
    replay_capacity: Count = 100_000
    replay_warmup: Count = 128
    batch_size: Batch = 128
    updates_per_slot: Updates = 1.0
    serve_some: Share = 0.0
    request_code: Literal["one_hot", "index"] = "one_hot"
    see_cache: Flag = True
    see_curves: Flag = False
    user_order: Literal["users", "hits_by_gain"] = "users"

    @property
    def chain_steps(self) -> int:
        """Steps of the actor's chain; 0 if it has none."""
        return self.denoising_steps if self.actor == "diffusion" else 0

    @property
    def per_user(self) -> bool:
        """Whether every user's cost has a value of its own."""
        return self.critic_target == "per_user"

    @property
    def one_hot(self) -> bool:
        """Whether the requested models are seen as one-hot."""
        return self.request_code == "one_hot"

    @property
    def beats_equal_shares(self) -> bool:
        """Whether the reward is what a cost is lower than with equal shares."""
        return self.reward_baseline == "equal_shares"

    def learning_rate_left(self, episodes: float) -> float:
        """Share of the allocator's step sizes after some episodes."""
        if self.lr_fall_episodes is None:
            return 1.0
        fallen = min(1.0, max(0.0, episodes - self.lr_hold_episodes) / self.lr_fall_episodes)
        return 1.0 - (1.0 - self.lr_end) * fallen
