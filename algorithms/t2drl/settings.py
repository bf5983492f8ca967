"""Every knob of T2DRL with its source, and the presets."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from edgegen.algorithms.t2drl.state import StateSettings
from edgegen.envs.core.errors import InputError, did_you_mean, from_validation
from edgegen.envs.core.fields import (
    Batch,
    Copies,
    Count,
    Flag,
    Frozen,
    NonNegative,
    Positive,
    Probability,
    Share,
    StepSize,
    Updates,
    Whole,
    Width,
)


class T2DRLSettings(Frozen):
    """Settings of T2DRL.

    That a DDQN caches and a DDPG with a diffusion actor allocates is arXiv 2411.01458's; the form of D3PG is that of
    the first author's arXiv 2507.20524; all numbers are our choice.

    Attributes:
        sharing: ``none``: one learner per cell. ``full``: one set of weights and replay for all cells.
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
        critic_loss: Of critic and cacher: ``squared``, or ``huber``: a share near zero makes a delay without bound, and
            a few such requests would outweigh all others.
        search_weight: Weight of a loss that draws the computing shares towards the best, by the critic, of the actions
            in which only the k hits with the largest shares get any, k = 1..N. Between an equal share for everybody and
            nothing for one of them lies a plateau, which no gradient crosses.
        search_rows: Slots of a batch in which it is searched.
        actor_lr: Adam step size of the actor.
        critic_lr: Adam step size of the critic.
        lr_hold_episodes: Episodes before the step sizes of actor and critic begin to fall.
        lr_fall_episodes: Episodes over which they fall, linearly; None keeps them.
        lr_end: Fraction of them that is left.
        average_weights: The policy that training returns has the averages of the weights that the target networks
            hold, not the last ones.
        gamma: Discount per slot. Allocation changes nothing of the slots after, so 0 loses nothing.
        tau: Rate of the soft target updates.
        reward_scale: Factor on the reward. ``spread``: such that what random decisions make of the reward has a spread
            of one, measured in episodes that are never played; the cacher's reward is also centred.
        reward_baseline: ``equal_shares``: the allocator's reward is what a user's cost is lower than with equal shares
            in the same slot. Allocation changes nothing after its slot, so the best allocation is the same.
        replay_capacity: Slots kept per learner.
        replay_warmup: Updates of the allocator begin when every learner holds more than this.
        batch_size: Slots per update.
        updates_per_slot: Updates of the allocator per sampled slot of one copy.
        caching_head: ``subsets``: one value for each of the 2^M caches. ``per_model``: a value per model, those of
            the cached models add up; for M in the hundreds.
            ``per_request``: likewise, but a model's value is the share of requests that is expected for it times
            what a request for it is worth. Expectations are learned from the requests, which do not depend on what is
            cached, worth from rewards given the requests that came.
        cacher_hidden: Width of the two hidden layers of the caching network.
        cacher_lr: Adam step size of the caching network.
        frame_gamma: Discount per frame; ``gamma`` to the power of the slots per frame if not given.
        remember: Whether the replay keeps the cache that was asked for (``raw``, with the penalty for what did not
            fit) or the one that came of it (``amended``).
        frame_replay_capacity: Frames kept per learner.
        frame_warmup: Updates of the cacher begin when every learner holds more than this.
        frame_batch_size: Frames per update.
        updates_per_frame: Updates of the cacher per sampled frame of one copy.
        serve_some: Share of training slots in which only a random number of random users get any computing.
        random_caches: ``uniform``: all orders in which models are cached until storage is full are equally likely, or
            all caches for ``subsets``. ``popular``: models are cached in the order of their popularity beforehand,
            disturbed more or less. Uniform ones have few hits, so few slots in which steps are scarce.
        epsilon_start: Share of random caches at the start.
        epsilon_end: And at the end.
        epsilon_hold_episodes: Episodes before it begins to fall. The cacher learns nothing from them: what a cached
            model is worth depends on how well the allocator uses it, which learns first.
        epsilon_episodes: Episodes over which it falls, linearly.
        copies: Copies of the scenario an env runner plays side by side.
        see_skewness: The cacher sees the state of the skewness chain.
        see_previous_cache: The cacher sees what was cached in the frame before.
        see_frequency: The cacher sees the request shares of the frame before.
        history_decay: If given, the cacher also sees the mean request shares of all frames so far, in which each frame
            has this fraction of the next one's weight.
        see_model_sizes: The cacher sees the models' sizes.
        see_frame_number: The cacher sees how much of the episode is over.
        request_code: How the allocator sees the requested models.
        see_cache: The allocator sees what is cached.
        see_curves: The allocator sees the curve of each requested model.
        user_order: Order in which the allocator sees its users.
    """

    sharing: Literal["none", "full"] = "none"
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
    critic_loss: Literal["squared", "huber"] = "squared"
    search_weight: NonNegative = 0.0
    search_rows: Batch = 16
    actor_lr: StepSize = 1e-4
    critic_lr: StepSize = 1e-3
    lr_hold_episodes: Whole = 0
    lr_fall_episodes: Count | None = None
    lr_end: Annotated[Positive, Field(le=1)] = 1.0
    average_weights: Flag = False
    gamma: Probability = 0.99
    tau: Annotated[Positive, Field(le=1)] = 0.005
    reward_scale: Positive | Literal["spread"] = 1.0
    reward_baseline: Literal["none", "equal_shares"] = "none"
    replay_capacity: Count = 100_000
    replay_warmup: Count = 128
    batch_size: Batch = 128
    updates_per_slot: Updates = 1.0
    caching_head: Literal["subsets", "per_model", "per_request"] = "subsets"
    cacher_hidden: Width = 256
    cacher_lr: StepSize = 1e-3
    frame_gamma: Probability | None = None
    remember: Literal["raw", "amended"] = "raw"
    frame_replay_capacity: Count = 10_000
    frame_warmup: Count = 64
    frame_batch_size: Batch = 64
    updates_per_frame: Updates = 1.0
    serve_some: Share = 0.0
    random_caches: Literal["uniform", "popular"] = "uniform"
    epsilon_start: Share = 1.0
    epsilon_end: Share = 0.05
    epsilon_hold_episodes: Whole = 0
    epsilon_episodes: Count = 250
    copies: Copies = 1
    see_skewness: Flag = True
    see_previous_cache: Flag = True
    see_frequency: Flag = True
    history_decay: Share | None = None
    see_model_sizes: Flag = False
    see_frame_number: Flag = False
    request_code: Literal["one_hot", "index"] = "one_hot"
    see_cache: Flag = True
    see_curves: Flag = False
    user_order: Literal["users", "hits_by_gain"] = "users"

    @model_validator(mode="after")
    def _needs(self) -> Self:
        if self.caching_head == "per_request" and not self.see_frequency:
            raise ValueError("caching_head 'per_request' needs see_frequency: expectations are learned from the shares")
        return self

    @property
    def state(self) -> StateSettings:
        """What the states of both agents hold."""
        return StateSettings(
            skewness=self.see_skewness,
            previous_cache=self.see_previous_cache,
            frequency=self.see_frequency,
            history_decay=self.history_decay,
            model_sizes=self.see_model_sizes,
            frame_number=self.see_frame_number,
            request=self.request_code,
            cache=self.see_cache,
            curves=self.see_curves,
            order=self.user_order,
        )

    def learning_rate_left(self, episodes: float) -> float:
        """Share of the allocator's step sizes after some episodes."""
        if self.lr_fall_episodes is None:
            return 1.0
        fallen = min(1.0, max(0.0, episodes - self.lr_hold_episodes) / self.lr_fall_episodes)
        return 1.0 - (1.0 - self.lr_end) * fallen

    def discount_per_frame(self, slots_per_frame: int) -> float:
        """Discount of the cacher: its steps are whole frames."""
        return self.gamma**slots_per_frame if self.frame_gamma is None else self.frame_gamma


_IMPROVED = {
    "sharing": "full",
    "network": "set",
    "comparisons": 4,
    "hidden": 64,
    "hidden_layers": 2,
    "denoising_steps": 3,
    "beta_max": 2.0,
    "epsilon_output": "linear",
    "clip_denoised": False,
    "squash": "tanh",
    "action_penalty": 1e-3,
    "critic_target": "per_user",
    "critic_shares": True,
    "critic_loss": "huber",
    "search_weight": 5.0,
    "actor_lr": 2e-3,
    "critic_lr": 2e-3,
    "lr_hold_episodes": 96,
    "lr_fall_episodes": 160,
    "lr_end": 0.05,
    "average_weights": True,
    "gamma": 0.0,
    "reward_scale": "spread",
    "reward_baseline": "equal_shares",
    "batch_size": 64,
    "updates_per_slot": 1.5,
    "caching_head": "per_request",
    "cacher_hidden": 64,
    "remember": "amended",
    "frame_replay_capacity": 5_000,
    "updates_per_frame": 2.0,
    "serve_some": 0.3,
    "random_caches": "popular",
    "epsilon_hold_episodes": 96,
    "epsilon_episodes": 128,
    "copies": 16,
    "history_decay": 0.7,
    "see_frame_number": True,
    "see_curves": True,
}

_TWO_TIMESCALE = {
    **_IMPROVED,
    "search_weight": 0.0,
    "caching_head": "per_model",
    "gamma": 0.5,
    "frame_gamma": 0.35,
    "updates_per_slot": 0.75,
    "lr_hold_episodes": 24,
    "lr_fall_episodes": 24,
    "epsilon_hold_episodes": 16,
    "epsilon_episodes": 24,
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"step_embedding": "mlp"},
    "two-timescale": _TWO_TIMESCALE,
    "improved": _IMPROVED,
    "ddpg": {**_IMPROVED, "actor": "mlp", "exploration_noise": 0.1},
}
"""What each preset changes from the defaults. ``paper`` is our reading of arXiv 2411.01458; ``two-timescale`` is the
same two learners, a DDQN and a D3PG that learn from rewards alone, with networks, scales and schedules with which they
do learn, in 48 episodes; ``improved`` also learns to expect requests and searches over its critic; ``ddpg`` is
``improved`` with a plain actor instead of a diffusion chain, its benchmark; noise on its actions explores for it, as
the noise of the chain does for the other."""


def make_settings(preset: str = "paper", overrides: dict[str, Any] | None = None) -> T2DRLSettings:
    """Return the settings of a preset with some fields replaced.

    Raises:
        InputError: If the preset or a field is unknown, or a value is impossible.
    """
    if preset not in PRESETS:
        raise InputError(
            f"Unknown T2DRL preset '{preset}'; presets are {', '.join(PRESETS)}.{did_you_mean(preset, PRESETS)}"
        )
    try:
        return T2DRLSettings(**{**PRESETS[preset], **(overrides or {})})
    except ValidationError as error:
        raise from_validation(error, "T2DRL settings", T2DRLSettings.model_fields) from None
