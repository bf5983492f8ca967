# SPDX-License-Identifier: Apache-2.0
"""What the sites of a fleet see: requests to be routed, to be given steps, and models to be kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgegen.envs.core.world import View

CACHER, ROUTER, ALLOCATOR = "cacher", "router", "allocator"
"""The roles: to choose what a site keeps, where a request runs, and with how many steps."""


@dataclass(frozen=True)
class CacherView(View):
    """What can be known when sites choose what they keep for a frame. All leading axes are the E copies.

    Attributes:
        demand: Requests of each site's users for each model, older frames counting less ``[E, S, M]``.
        resident: Whether it is resident ``[E, S, M]``, bool.
        size_gb: Memory it takes ``[E, S, M]``, GB.
        load_s: Time to load it, also where it is resident ``[E, S, M]``, s.
        work_s: Time of a picture with all steps at speed 1 ``[E, S, M]``, s.
        model_speed: Speed of each site with it ``[E, S, M]``.
        replicas: Sites where it is resident ``[E, S, M]``.
        memory_gb: Memory of each site ``[E, S]``, GB.
        speed: Speed of each site ``[E, S]``.
        backlog_s: What each site has still to do ``[E, S]``, s.
    """

    demand: Tensor
    resident: Tensor
    size_gb: Tensor
    load_s: Tensor
    work_s: Tensor
    model_speed: Tensor
    replicas: Tensor
    memory_gb: Tensor
    speed: Tensor
    backlog_s: Tensor


@dataclass(frozen=True)
class RouterView(View):
    """What can be known when a request is placed: the next one of every copy that has one before its frame ends.

    Candidates are the S sites and, last, the cloud. What is said of a copy without a request is meaningless.

    Attributes:
        due: Whether a copy has a request ``[E]``, bool.
        home: Site that it arrived at ``[E]``, int64.
        model: Model that it asks for ``[E]``, int64.
        pictures: Pictures ``[E]``.
        weight: Worth ``[E]``.
        deadline_s: Promised delay ``[E]``, s.
        least_quality: Quality with the fewest steps ``[E]``.
        full_quality: Quality with all steps ``[E]``.
        grades: The same with nine numbers of steps from the fewest to all, evenly spaced ``[E, 9]``.
        refusal: Cost of refusing it ``[E]``, in utility; infinite where none can be refused.
        age_s: Age of the reports ``[E]``, s.
        demand: Share of the model in all recent requests ``[E]``.
        replicas: Sites where the model is resident ``[E]``.
        backlog_s: Reported backlog of each candidate and own placements since ``[E, S + 1]``, s.
        load_s: Time to load the model there, 0 where it is resident ``[E, S + 1]``, s.
        full_s: Time to make the pictures there with all steps ``[E, S + 1]``, s.
        least_s: The same with the fewest steps ``[E, S + 1]``, s.
        network_s: Time of the way there and back ``[E, S + 1]``, s.
        slack_s: What is left of the promised delay with the fewest steps ``[E, S + 1]``, s.
        price: Price of a request there ``[E, S + 1]``, in utility.
        speed: Speed there, as it was reported ``[E, S + 1]``.
        pace: Share of its speed that it reported, 0 of a site that has failed ``[E, S + 1]``.
        work_price: Price of a second there ``[E, S + 1]``, in utility.
        resident: Whether the model is resident there ``[E, S + 1]``, bool.
    """

    due: Tensor
    home: Tensor
    model: Tensor
    pictures: Tensor
    weight: Tensor
    deadline_s: Tensor
    least_quality: Tensor
    full_quality: Tensor
    grades: Tensor
    refusal: Tensor
    age_s: Tensor
    demand: Tensor
    replicas: Tensor
    backlog_s: Tensor
    load_s: Tensor
    full_s: Tensor
    least_s: Tensor
    network_s: Tensor
    slack_s: Tensor
    price: Tensor
    speed: Tensor
    pace: Tensor
    work_price: Tensor
    resident: Tensor


@dataclass(frozen=True)
class AllocatorView(View):
    """What can be known at the executing site when a request is given its steps; ``[E]`` each.

    Attributes:
        due: Whether a copy has a request that was not refused, bool.
        site: Where it runs; S is the cloud, int64.
        in_cloud: Whether that is the cloud, bool.
        model: Model that it asks for, int64.
        weight: Worth.
        deadline_s: Promised delay, s.
        backlog_s: True backlog there, s.
        mean_backlog_s: Mean backlog of all sites, as the home knows it, s.
        load_s: Time to load the model, 0 if it is resident, s.
        network_s: Time of the way there and back, s.
        least_s: Time to make the pictures with the fewest steps, s.
        full_s: Time to make them with all steps, s.
        slack_s: What is left of the promised delay with the fewest steps, s.
        speed: Speed there, as its home knows it.
        work_price: Price of a second there, in utility.
        least_steps: Fewest steps.
        full_steps: All steps.
        least_quality: Quality with the fewest steps.
        full_quality: Quality with all steps.
        grades: The same with nine numbers of steps from the fewest to all, evenly spaced ``[E, 9]``.
    """

    due: Tensor
    site: Tensor
    in_cloud: Tensor
    model: Tensor
    weight: Tensor
    deadline_s: Tensor
    backlog_s: Tensor
    mean_backlog_s: Tensor
    load_s: Tensor
    network_s: Tensor
    least_s: Tensor
    full_s: Tensor
    slack_s: Tensor
    speed: Tensor
    work_price: Tensor
    least_steps: Tensor
    full_steps: Tensor
    least_quality: Tensor
    full_quality: Tensor
    grades: Tensor


CANDIDATES = (
    *("backlog_s", "load_s", "full_s", "least_s", "network_s", "slack_s", "price", "speed", "resident"),
    *("pace", "work_price"),
)
"""Fields of a router's view that say something of each candidate, in the order of the physics' columns."""


def seen_in(view: RouterView) -> NDArray[np.float64]:
    """What a router's view says of each candidate ``[E, S + 1, 11]``, as compiled functions take it."""
    columns = (getattr(view, name).detach().cpu().numpy() for name in CANDIDATES)
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=-1)
