# SPDX-License-Identifier: Apache-2.0
"""Who decides for which role of a service, by the policy that its config names."""

from __future__ import annotations

import pytest
import torch
from ray import cloudpickle

from edgegen.algorithms.core.codec import save_policy
from edgegen.algorithms.methods.ladts import METHOD, LADTSPolicy
from edgegen.algorithms.roles.router.routers import router_for
from edgegen.envs.core.errors import InputError
from edgegen.serve.config import load_config
from edgegen.serve.control.jobs import Job
from edgegen.serve.control.steps import Placed
from edgegen.serve.kinds.cast import Part, allocators, following, live_roles, make_parts, parts_of
from edgegen.serve.kinds.registry import scenario_of


def config(policy, kind="offloading", **fields):
    return load_config("demo", {"policy": policy, "kind": kind, **fields})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained router of the kind offloading."""
    folder = tmp_path_factory.mktemp("run") / "policy"
    scenario = scenario_of(load_config("demo"))
    torch.manual_seed(0)
    save_policy(LADTSPolicy(router_for(scenario, METHOD.make_settings()).actor(), seed=1), folder, scenario, {})
    return str(folder)


def test_a_policy_without_roles_decides_for_all_that_its_kind_has():
    assert parts_of(config("least-delay")) == {"router": Part("offloading", "least-delay")}
    fleet = Part("fleet", "earliest")
    assert parts_of(config("earliest", "fleet")) == {"router": fleet, "cacher": fleet, "allocator": fleet}
    assert live_roles("fleet") == {"router": "router", "cacher": "cacher", "allocator": "allocator"}


def test_who_is_not_named_is_the_usual_rule_of_the_services_kind_or_the_edges_themselves(run):
    assert parts_of(config("router=earliest", "fleet")) == {
        "router": Part("fleet", "earliest"),
        "cacher": Part("fleet", "price-greedy"),
        "allocator": Part("fleet", "price-greedy"),
    }
    assert parts_of(config("router=least-delay")) == {"router": Part("offloading", "least-delay")}
    others = parts_of(config("cacher=price-greedy"))
    assert others == {"router": Part("offloading", "least-delay"), "cacher": Part("fleet", "price-greedy")}


def test_a_policy_by_alias_is_followed_and_one_by_version_is_meant_to_stay():
    assert following(config("models:/mine@champion")).follow == "models:/mine@champion"
    assert following(config("models:/mine@champion", follow="models:/other@best")).follow == "models:/other@best"
    for stays in ("models:/mine/3", "models:/mine/latest", "least-delay", "router=least-delay"):
        assert following(config(stays)).follow is None


def test_roles_may_be_of_different_kinds(run):
    parts = parts_of(config(f"router={run} cacher=price-greedy"))
    assert parts == {"router": Part("offloading", run), "cacher": Part("fleet", "price-greedy")}
    made = make_parts(config("least-delay"), parts)
    assert [policy.name for policy in made.values()] == ["lad-ts", "price-greedy"]
    mixed = parts_of(config(f"router={run}", "fleet"))
    assert mixed["router"] == Part("offloading", run)
    assert mixed["cacher"] == Part("fleet", "price-greedy")


def test_one_policy_for_several_roles_is_made_once():
    made = make_parts(config("x", "fleet"), dict.fromkeys(("router", "cacher"), Part("fleet", "earliest")))
    assert made["router"] is made["cacher"]
    only = make_parts(config("x", "fleet"), dict.fromkeys(("router", "cacher"), Part("fleet", "earliest")), ("cacher",))
    assert list(only) == ["cacher"]


@pytest.mark.parametrize(
    ("policy", "kind", "words"),
    [
        ("router=nothing", "fleet", r"^Unknown policy 'nothing'; give a rule \(home, affinity, earliest"),
        ("router=least-delay cacher=least-delay", "offloading", r"^Unknown policy 'least-delay'; give a rule \("),
    ],
)
def test_what_can_not_be_cast_is_refused_in_one_sentence(policy, kind, words):
    with pytest.raises(InputError, match=words) as refused:
        parts_of(config(policy, kind))
    assert "\n" not in str(refused.value)


def test_a_policy_without_the_role_it_is_named_for_is_refused(run):
    with pytest.raises(InputError, match="does not decide for the role 'cacher'; it does for router"):
        make_parts(config("least-delay"), {"cacher": Part("offloading", run)})


def test_an_allocator_is_made_for_every_edge():
    assert allocators(config("least-delay")) == dict.fromkeys(("edge-a", "edge-b", "edge-c"))
    service = config("price-greedy", "fleet", deadline_s=20)
    slow = cloudpickle.loads(cloudpickle.dumps(allocators(service)["edge-c"]))  # it goes to another process
    job = Job("1", "x", None, 20, 7.5, 64, 64, (0,), 0.6, "shapes-64", 5, left_s=20.0, home="edge-a")
    step_s = 0.03 / 0.25
    assert slow(job, Placed(0.0, 0.0, 0.25, 20.0)) == 20
    # Of 1.5 s the fewest steps take 0.6 s and the ways little: there is time for about 7 more.
    assert slow(job, Placed(18.5, 0.0, 0.25, 20.0)) in range(5, 13)
    assert slow(job, Placed(20.0, 0.0, 0.25, 20.0)) == 5
    assert step_s * 5 == pytest.approx(0.6)
