# SPDX-License-Identifier: Apache-2.0
"""The learned baselines: what they decide with, what they learn from, and that senseless mixtures are refused."""

import math

import pytest
import torch
from ray.rllib.core.columns import Columns

from edgegen.algorithms.methods.configs import LADTSConfig
from edgegen.algorithms.methods.ladts import METHOD, PRESETS, LADTSPolicy
from edgegen.algorithms.rllib.runner import JointEnvRunner
from edgegen.algorithms.roles.router.actor import LatentDiffusionActor, QNetwork, SoftmaxActor
from edgegen.algorithms.roles.router.module import LATENT, NEXT_LATENT
from edgegen.algorithms.roles.router.routers import router_for, router_of
from edgegen.algorithms.roles.router.settings import RouterSettings
from edgegen.algorithms.roles.router.spec import RouterSpec
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.view import ROUTER
from edgegen.envs.offloading.world import OffloadingWorld

PAIR = load_scenario("demo", {"capacity_gcycles_s": [1, 3], "rate_mbit_s": [100, 100]})


def router(preset, scenario=PAIR, **overrides):
    return router_for(scenario, METHOD.make_settings(preset, overrides))


def make_constant(network, outputs):
    """Make stacked networks answer the same to every input."""
    with torch.no_grad():
        network.layers[-1].weight.zero_()
        network.layers[-1].bias.copy_(torch.as_tensor(outputs).expand_as(network.layers[-1].bias))


def build(preset, **settings):
    config = LADTSConfig().scenario(PAIR).preset(preset, sharing="full", hidden=4, gamma=0.9, **settings)
    learner = config.debugging(seed=0).build_learner()
    learner.build()
    return learner, learner.module[ROUTER]


def transitions(spec, rows=3):
    """Transitions ``[G=1, rows, ...]`` in which the second server was chosen at a reward of −2."""
    generator = torch.Generator().manual_seed(1)
    state, following = (torch.rand(1, rows, router_of(spec).state_size, generator=generator) for _ in range(2))
    latent = torch.rand(1, rows, router_of(spec).latents.size, generator=generator)
    return {
        Columns.OBS: state,
        Columns.NEXT_OBS: following,
        LATENT: latent,
        NEXT_LATENT: latent,
        Columns.ACTIONS: torch.ones(1, rows, dtype=torch.long),
        Columns.REWARDS: torch.full((1, rows), -2.0),
    }


@pytest.mark.parametrize(
    ("preset", "kind", "per_agent"),
    # 58→20→20→20 for the chain with its latent and step embedding, 22→20→20→20 for the others
    [("d2sac-ts", LatentDiffusionActor, 2020), ("sac-ts", SoftmaxActor, 1300), ("dqn-ts", QNetwork, 1300)],
)
def test_the_published_networks(preset, kind, per_agent):
    actor = router(preset, load_scenario("ladts-paper")).actor()
    assert type(actor) is kind
    assert sum(p.numel() for p in actor.parameters()) == 20 * per_agent


@pytest.mark.parametrize("preset", PRESETS)
def test_baselines_differ_from_the_paper_preset_only_in_what_makes_them(preset):
    published = RouterSettings().model_dump()
    changed = {
        name: value for name, value in METHOD.make_settings(preset).model_dump().items() if value != published[name]
    }
    assert changed == {name: value for name, value in PRESETS[preset].items() if value != published[name]}
    allowed = {
        "paper": set(),
        "d2sac-ts": {"memory"},
        "sac-ts": {"actor", "memory"},
        "dqn-ts": {"actor", "memory", "critic_lr"},
    }
    assert preset not in allowed or changed.keys() == allowed[preset]


def test_softmax_noise_estimates_bound_how_sure_d2sac_can_be():
    # Unrolled, x_0 = 12.49·x_I − Σ g_i ε_i + 5.11·noise with Σ g_i = 17.53. Even the estimate ε = (0, 1) in every step
    # lets the first of two servers win only with Φ(17.53 / √(2·(12.49² + 5.11²))) = Φ(0.919) = 0.821.
    actor = router("d2sac-ts", sharing="full").actor()
    make_constant(actor.net, [0.0, 60.0])
    generator, rows = torch.Generator().manual_seed(0), 20_000
    latent = torch.randn(1, rows, 2, generator=generator)
    state = torch.zeros(1, rows, router_of(actor.spec).state_size)
    x = actor.logits(state, latent, actor.chain_noise(rows, generator))
    assert (x[..., 0] > x[..., 1]).float().mean().item() == pytest.approx(0.821, abs=0.01)


def test_q_network_is_epsilon_greedy():
    actor = router("dqn-ts", load_scenario("demo"), epsilon=0.2, sharing="full").actor()
    make_constant(actor.net, [-3.0, -1.0, -4.0, -1.5, -9.0])
    state = torch.rand(1, 3, router_of(actor.spec).state_size)
    latent = state.new_empty(1, 3, 0)
    expected = [0.04, 0.84, 0.04, 0.04, 0.04]
    for row in actor(state, latent, None)[0].tolist():
        assert row == pytest.approx(expected)


def test_exploring_dqn_takes_a_random_server_at_the_rate_epsilon():
    scenario = load_scenario("demo", {"tasks_per_slot.low": 40, "tasks_per_slot.high": 40})
    actor = router("dqn-ts", scenario, epsilon=0.25).actor()
    make_constant(actor.net, [0.0, 0.0, 1.0, 0.0, 0.0])
    policy = LADTSPolicy(actor, seed=4)
    observation = OffloadingWorld(scenario, 50).reset(0)
    action, memory = policy.act(ROUTER, observation, {})
    assert memory == {}
    share = (action != 2).float().mean().item()  # 10 000 decisions; 0.25 · 4/5, standard error 0.004
    assert share == pytest.approx(0.2, abs=0.016)
    assert (policy.act(ROUTER, observation, {}, explore=False)[0] == 2).all()


def test_actors_without_a_chain_leave_their_latents_empty():
    policy = LADTSPolicy(router("sac-ts").actor(), seed=0)
    observation = OffloadingWorld(PAIR, 3).reset(0)
    decision = policy.place(observation, policy.begin(ROUTER, observation))
    copies, servers, width = observation.tasks.present.shape
    assert decision.latent.shape == (copies, servers, width, 0)


def test_dqn_learns_from_the_target_by_hand():
    learner, module = build("dqn-ts")
    make_constant(module.actor.net, [-5.0, -6.0])
    make_constant(module.target_actor.net, [-8.0, -4.0])
    batch = transitions(module.spec)
    # y = −2 + 0.9·max(−8, −4) = −5.6; the chosen second server has Q = −6
    assert learner.losses(ROUTER, module, batch).item() == pytest.approx(0.4**2, rel=1e-5)
    before = module.actor.net.layers[-1].bias.clone()
    results = learner.update_module(ROUTER, module, batch)
    assert results["critic_loss"].item() == pytest.approx(0.16, rel=1e-5)
    moved = (module.actor.net.layers[-1].bias - before)[0, 0]
    assert moved[0] == 0  # the server that was not chosen
    assert moved[1].item() == pytest.approx(1e-4, rel=1e-2)  # Adam's first step is its step size, upwards to −5.6


def test_dqn_copies_into_its_target_every_so_many_updates():
    learner, module = build("dqn-ts", target_copy_every=3)
    batch = transitions(module.spec)

    def behind():
        pairs = zip(module.actor.parameters(), module.target_actor.parameters(), strict=True)
        return not all(torch.equal(one, other) for one, other in pairs)

    seen = []
    for _ in range(7):
        learner._update({ROUTER: {name: value.transpose(0, 1) for name, value in batch.items()}})
        seen.append(behind())
    assert seen == [True, True, False, True, True, False, True]


def test_env_runners_get_the_q_network_alone():
    learner, module = build("dqn-ts")
    runner = JointEnvRunner(config=learner.config)
    sent = module.get_state(inference_only=True)
    assert {name.split(".")[0] for name in sent} == {"actor"}
    runner.set_state({"rl_module": {ROUTER: sent}})
    mine, theirs = module.actor.state_dict(), runner.module[ROUTER].actor.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


@pytest.mark.parametrize("soft_target", [True, False])
def test_sac_losses_by_hand(soft_target):
    learner, module = build("sac-ts", initial_temperature=0.1, soft_target=soft_target)
    make_constant(module.actor.net, [0.0, math.log(3)])  # π = (1/4, 3/4), H = 0.562335
    make_constant(module.critics, [[[-5.0, -6.0]], [[-7.0, -5.0]]])  # least: (−7, −6)
    make_constant(module.target_critics, [[[-4.0, -9.0]], [[-6.0, -8.0]]])  # least: (−6, −9)
    entropy = 0.562335
    # y = −2 + 0.9·(−6/4 − 9·3/4 + 0.1·H); both critics valued the second server: −6 and −5
    y = -2 + 0.9 * (-8.25 + (0.1 * entropy if soft_target else 0))
    critic = (-6 - y) ** 2 + (-5 - y) ** 2
    actor = -0.1 * entropy + 7 / 4 + 6 * 3 / 4
    assert learner.losses(ROUTER, module, transitions(module.spec)).item() == pytest.approx(critic + actor, rel=1e-5)


def test_policies_saved_before_there_was_a_choice_are_latent_diffusion():
    saved = router("paper").spec.model_dump(exclude={"actor", "epsilon"})
    again = router_of(RouterSpec.model_validate(saved))
    assert isinstance(again.actor(), LatentDiffusionActor)
    assert again.name == "lad-ts"


@pytest.mark.parametrize(
    ("preset", "overrides", "complaint"),
    [
        ("paper", {"actor": "mlp"}, r"memory is 'slot', but actor 'mlp' has no chain and needs 'none'\."),
        ("dqn-ts", {"memory": "task"}, r"memory is 'task', but actor 'q' has no chain and needs 'none'\."),
        ("paper", {"memory": "none"}, r"memory is 'none', but actor 'diffusion' needs 'slot', 'task' or 'gaussian'\."),
        ("sac-ts", {"legacy_alias": True}, r"legacy_alias is on, but actor 'mlp' has no latents to store\."),
        ("dqn-ts", {"epsilon": 1.5}, r"'epsilon' is 1\.5, but input should be less than or equal to 1"),
        ("dqn-ts", {"target_copy_every": 0}, r"'target_copy_every' is 0, but input should be greater than"),
        ("paper", {"actor": "cnn"}, r"'actor' is 'cnn', but input should be 'diffusion', 'mlp' or 'q'"),
    ],
)
def test_senseless_mixtures_are_refused(preset, overrides, complaint):
    with pytest.raises(InputError, match=complaint):
        METHOD.make_settings(preset, overrides)
