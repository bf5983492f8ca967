# SPDX-License-Identifier: Apache-2.0
"""Who decides for which role of a service: the policies that its config names, made and checked.

A name without roles is a policy of the service's kind, for every role that the kind has live. With roles, as in
``router=runs/one cacher=runs/two``, each part may be of another kind: every role is shown the view of the kind of its
policy. A role that nobody is named for gets the usual rule of the service's kind, if the kind has that role
(``least-delay`` for offloading, ``price-greedy`` for the fleet); else the edges themselves decide: they keep what was
asked for last, and make all the steps that there is time for. Only routing has to be somebody's: ``price-greedy``'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgegen.algorithms.core.catalog import find_policy_folder, make_policy, plain_name, split_roles
from edgegen.algorithms.core.codec import read_manifest
from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.core.registered import fetch, is_alias, is_registered, pinned, tracking_uri
from edgegen.algorithms.core.rulebook import rule_book
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import DEFAULT_KIND, kind_named
from edgegen.envs.core.plugins import plugged
from edgegen.serve.config import ROLES, ServiceConfig
from edgegen.serve.control.steps import LiveAllocator
from edgegen.serve.kinds.registry import scenario_of, served, served_kinds

ROUTER, CACHER, ALLOCATOR = ROLES


@dataclass(frozen=True)
class Part:
    """A policy for a role.

    Attributes:
        kind: Kind of world as which it sees the service.
        name: As the config names it.
    """

    kind: str
    name: str


ANY_ROUTER = Part("fleet", "price-greedy")
"""Who routes where nobody is named for that, and the kind of the service has no router."""


def live_roles(kind: str) -> dict[str, str]:
    """Roles that worlds of a kind have live, by what a service calls them, with the kind's own names."""
    roles = tuple(kind_named(kind).world.roles)
    if len(roles) == 1:  # whatever it is called, it places requests
        return {ROUTER: roles[0]}
    return {role: role for role in ROLES if role in roles}


def parts_of(config: ServiceConfig) -> dict[str, Part]:
    """Say who decides for which role; roles that the edges see to themselves are left out.

    Raises:
        InputError: If there is no policy of a name, or a role is none of its policy's kind.
    """
    own = live_roles(config.kind)
    roles = dict.fromkeys((*own.values(), *ROLES))
    policy = plain_name(config.policy, roles)
    named = split_roles(policy, roles)
    usual = Part(config.kind, served(config.kind).usual or kind_named(config.kind).reference)
    parts = {} if named else dict.fromkeys(own, Part(config.kind, policy))
    for role in ROLES:
        name = named.get(role, named.get(own.get(role, role)))
        if name is not None:
            parts[role] = Part(_kind_of(name, role, config), name)
        elif role in own:
            parts.setdefault(role, usual)
    parts.setdefault(ROUTER, ANY_ROUTER)
    return parts


def make_parts(config: ServiceConfig, parts: Mapping[str, Part], only: tuple[str, ...] = ROLES) -> dict[str, Policy]:
    """Make the policies of some roles; one that decides for several is made once.

    Args:
        config: The service.
        parts: Who decides for which role.
        only: Roles whose policies are wanted.

    Raises:
        InputError: If a policy is damaged, does not fit the service, or has not the role it is named for.
    """
    scenarios: dict[str, Any] = {}
    made: dict[Part, Policy] = {}
    policies = {}
    for role, part in parts.items():
        if role not in only:
            continue
        if part not in made:
            scenario = scenarios.setdefault(part.kind, scenario_of(config, kind=part.kind))
            made[part] = make_policy(part.name, scenario, config.seed)
        own = live_roles(part.kind).get(role)
        if own is None or own not in made[part].roles:
            raise InputError(
                f"The policy '{part.name}' does not decide for the role '{role}'; it does for "
                f"{', '.join(sorted(made[part].roles))}."
            )
        policies[role] = made[part]
    return policies


def following(config: ServiceConfig) -> ServiceConfig:
    """Return a config that follows the alias by which its policy is named, unless it says what it follows.

    A policy that is named by its version, ``models:/NAME/VERSION``, is meant to stay.
    """
    if config.follow is None and is_alias(config.policy):
        return config.model_copy(update={"follow": config.policy})
    return config


def lasting(config: ServiceConfig) -> ServiceConfig:
    """Return a config whose folders and trained policies mean the same in every process, now and after a restart.

    Raises:
        InputError: As for :func:`parts_of`, or if a registered policy can not be fetched.
    """
    parts = parts_of(config)
    if config.record is not None:
        folder = str(Path(config.record.folder).expanduser().resolve())
        config = config.model_copy(update={"record": config.record.model_copy(update={"folder": folder})})
    if "=" not in config.policy:  # one for all of the kind's roles
        return config.model_copy(update={"policy": _lasting(Part(config.kind, plugged(config.policy)))})
    names = {part: _lasting(part) for part in set(parts.values())}
    policy = " ".join(f"{role}={names[part]}" for role, part in parts.items())
    return config.model_copy(update={"policy": policy})


def _kind_of(name: str, role: str, config: ServiceConfig) -> str:
    """Kind of the world that a policy is made for; the service's own one before others."""
    known = [config.kind, *(kind for kind in served_kinds() if kind != config.kind)]
    fitting = [kind for kind in known if role in live_roles(kind)]
    for kind in fitting:
        if name in rule_book(kind).makers:
            return kind
    rules = [rule for kind in fitting for rule in rule_book(kind).makers]
    scenario = read_manifest(find_policy_folder(name, dict.fromkeys(rules))).get("scenario")
    kind = scenario.get("kind", DEFAULT_KIND) if isinstance(scenario, dict) else DEFAULT_KIND
    served(kind)
    return str(kind)


def _lasting(part: Part) -> str:
    if part.name in rule_book(part.kind).makers:
        return part.name
    if not is_registered(part.name):
        return str(Path(part.name).expanduser().resolve())
    # Replicas on other machines fetch from a server themselves; a database is a file of this machine.
    return pinned(part.name) if tracking_uri().startswith(("http://", "https://")) else str(fetch(part.name))


def allocators(config: ServiceConfig, policies: Mapping[str, Policy] | None = None) -> dict[str, LiveAllocator | None]:
    """Make what chooses the steps of jobs at every edge; None if the edges see to that themselves.

    Args:
        config: The service.
        policies: The policies of its roles, as :func:`make_parts` made them; made here if None.

    Raises:
        InputError: As for :func:`make_parts`, or if the kind of the policy has no allocator that a service can ask.
    """
    names = [edge.name for edge in config.edges]
    part = parts_of(config).get(ALLOCATOR)
    if part is None:
        return dict.fromkeys(names)
    steps = served(part.kind).steps
    if steps is None:
        raise InputError(f"Worlds of the kind {part.kind} have no allocator that a service can ask.")
    policy = (policies or make_parts(config, {ALLOCATOR: part}))[ALLOCATOR]
    role, world = live_roles(part.kind)[ALLOCATOR], scenario_of(config, kind=part.kind)
    made = {name: LiveAllocator(policy, role, steps(config, name, world), config.explore) for name in names}
    made[names[0]].try_out(config.edges[0].all_models[0])  # here, because the first decision takes long
    return dict(made)
