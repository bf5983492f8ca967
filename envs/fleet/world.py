# SPDX-License-Identifier: Apache-2.0
"""The fleet world: cachers at the beginning of a frame, then request by request a router and an allocator.

Time is continuous, copies go in lockstep: on a router's turn every copy that has another request before the end of its
frame places the next one; the others wait, and are not ``due``. What happens in between is in
:mod:`edgegen.envs.fleet.physics`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from edgegen.envs.core.fields import check_copies
from edgegen.envs.core.world import Role, World
from edgegen.envs.fleet import physics
from edgegen.envs.fleet.books import STATE, Books, books_of, fixed_of
from edgegen.envs.fleet.bounds import idle_bounds
from edgegen.envs.fleet.curves import GRADES
from edgegen.envs.fleet.draws import ASKED, Ints, Requests, draw_requests
from edgegen.envs.fleet.scenario import FleetScenario, Floats
from edgegen.envs.fleet.view import ALLOCATOR, CACHER, ROUTER, AllocatorView, CacherView, RouterView


@dataclass(frozen=True)
class FleetOutcome:
    """What came of a decision.

    Attributes:
        rewards: Rewards by role ``[E, sites]``: of a request its utility, of a frame that of what each site made.
        due: Copies of which a request was placed ``[E]``, bool; None unless steps were chosen.
        home: Where these requests arrived ``[E]``, int64.
        result: What became of them ``[E, 11]``, columns as in :mod:`edgegen.envs.fleet.physics`, float64.
        bound: What they would be worth on an idle fleet ``[E]``, see :func:`edgegen.envs.fleet.bounds.idle_bounds`.
        loads: Loads so far ``[E]``, int64.
        number: Number of the request that was placed in the episode ``[E]``, int64.
    """

    rewards: Mapping[str, Tensor]
    due: Tensor | None = None
    home: Tensor | None = None
    result: Tensor | None = None
    bound: Tensor | None = None
    loads: Tensor | None = None
    number: Tensor | None = None


class FleetWorld(World):
    """E independent copies of a fleet, played in lockstep.

    Actions: of cachers ``[E, S, M]``, bool; of the router that is due in each copy ``[E, 1]``, a site, S for the cloud,
    or S + 1 to refuse the request where that has a price; of the allocator ``[E, 1, 1, 1]``, the share of the steps
    between the fewest and all.

    Args:
        scenario: The world.
        copies: Number of copies E.
        device: Where views are shown; the books are in the memory of the host.
        requests: What arrives, if not what the scenario draws.

    Raises:
        InputError: If no memory holds so many copies.
    """

    kind: ClassVar[str] = "fleet"
    roles: ClassVar[dict[str, Role]] = {
        CACHER: Role(
            CACHER,
            "subset",
            "models",
            ("keep",),
            CacherView,
            shape=lambda scenario: (scenario.sites, len(scenario.kinds_of_models)),
        ),
        ROUTER: Role(ROUTER, "choice", "requests", ("site",), RouterView, shape=lambda scenario: (1, scenario.choices)),
        ALLOCATOR: Role(ALLOCATOR, "shares", "requests", ("steps",), AllocatorView, shape=lambda scenario: (1, 1, 1)),
    }

    def __init__(
        self,
        scenario: FleetScenario,
        copies: int = 1,
        device: torch.device | str = "cpu",
        requests: Requests | None = None,
    ) -> None:
        check_copies(copies, entries(scenario), scenario.name)
        self.scenario, self.copies, self.device = scenario, copies, torch.device(device)
        self.fixed = fixed_of(scenario)
        self._given = requests
        self._seed, self._first = 0, 0
        self._requests = requests or draw_requests(scenario, 0, range(copies))
        self._bounds: Floats | None = None
        self.reset(seed=0)

    def reset(self, seed: int | None = None, first_episode: int = 0) -> CacherView:
        """Begin the next E episodes, or with a seed E episodes of that seed's stream; see :meth:`World.reset`."""
        if seed is None:
            seed, first_episode = self._seed, self._first + self.copies
        self._draw(seed, first_episode)
        self.books = books_of(self.scenario, self._requests)
        self._frame, self._phase = 0, CACHER
        self._made = np.zeros((self.copies, self.scenario.sites))
        self._site = np.zeros(self.copies, dtype=np.int64)
        return self._cacher_view()

    @property
    def turn(self) -> str | None:
        """The cachers' at the beginning of a frame, then a router's and an allocator's for every request in it."""
        return self._phase if self._frame < self.scenario.frames else None

    @property
    def round(self) -> int:
        """Frames that are over."""
        return self._frame

    @property
    def future(self) -> Requests:
        """All requests of the episodes."""
        return self._requests

    @property
    def bounds(self) -> Floats:
        """What each request would be worth on an idle fleet ``[E, N]``; no policy makes more of it."""
        if self._bounds is None:
            self._bounds = idle_bounds(self.scenario, self.fixed, self._requests)
        return self._bounds

    def observe(self) -> CacherView | RouterView | AllocatorView:
        """Return the view of this turn; at the end, of the frame that would follow."""
        if self.turn == ROUTER:
            return self._router_view()
        return self._allocator_view() if self.turn == ALLOCATOR else self._cacher_view()

    def decide(self, action: Tensor) -> FleetOutcome:
        """Take the decision that is due; see :meth:`World.decide`."""
        turn = self.turn
        if turn is None:
            raise ValueError("the episode is over; call reset()")
        sites, models = self.scenario.sites, len(self.scenario.kinds_of_models)
        shape = {CACHER: (sites, models), ROUTER: (1,), ALLOCATOR: (1, 1, 1)}[turn]
        if action.shape != (self.copies, *shape):
            raise ValueError(f"the {turn}'s action has shape {tuple(action.shape)}, expected {(self.copies, *shape)}")
        values = action.detach().cpu().numpy()
        if turn == CACHER:
            return self._keep(values)
        return self._route(values) if turn == ROUTER else self._serve(values)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state as plain values and tensors."""
        return {
            "seed": self._seed,
            "first_episode": self._first,
            "frame": self._frame,
            "phase": self._phase,
            "site": torch.from_numpy(self._site.copy()),
            "made": torch.from_numpy(self._made.copy()),
            **{name: torch.from_numpy(getattr(self.books, name).copy()) for name in STATE},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state returned by ``state_dict`` of a world of the same scenario and copies.

        Raises:
            ValueError: If the state is of other copies, sites or models.
        """
        if state["resident"].shape != self.books.resident.shape:
            raise ValueError(
                f"the state is of {tuple(state['resident'].shape)} copies, sites and models, "
                f"not {self.books.resident.shape}"
            )
        self._draw(state["seed"], state["first_episode"])
        self._frame, self._phase = state["frame"], state["phase"]
        self._site, self._made = (state[name].cpu().numpy().copy() for name in ("site", "made"))
        self.books = Books(**{name: state[name].cpu().numpy().copy() for name in STATE}, happens=self._requests.happens)
        if self.turn in (ROUTER, ALLOCATOR):
            self._look()

    def _draw(self, seed: int, first_episode: int) -> None:
        if self._given is None and (seed, first_episode) != (self._seed, self._first):
            self._requests = draw_requests(self.scenario, seed, range(first_episode, first_episode + self.copies))
            self._bounds = None
        self._seed, self._first = seed, first_episode
        self._due = np.zeros(self.copies, dtype=np.bool_)
        self._seen = np.zeros((self.copies, self.scenario.sites + 1, physics.CANDIDATE))

    @property
    def _end_s(self) -> float:
        frame = self._frame + 1
        return frame * self.scenario.frame_s if frame < self.scenario.frames else float("inf")

    def _look(self) -> None:
        physics.look_all(self.fixed, self._requests, self.books, self._end_s, self._due, self._seen)

    def _advance(self, rewards: dict[str, Tensor]) -> None:
        """Go on to the next request of each copy; if no copy has one in this frame, end the frame."""
        self._look()
        self._phase = ROUTER
        if not self._due.any():
            rewards[CACHER] = self._tensor(self._made)
            self._made = np.zeros_like(self._made)
            self._frame, self._phase = self._frame + 1, CACHER

    def _keep(self, wanted: np.ndarray) -> FleetOutcome:
        if wanted.dtype != np.bool_ and not np.isin(wanted, (0, 1)).all():
            raise ValueError("what is kept must be 0 or 1")
        self.books.wanted[:] = wanted
        physics.keep_all(self.fixed, self.books, self._frame * self.scenario.frame_s, self._frame == 0)
        rewards: dict[str, Tensor] = {}
        self._advance(rewards)
        return FleetOutcome(rewards, loads=torch.from_numpy(self.books.loads.copy()))

    def _route(self, site: np.ndarray) -> FleetOutcome:
        chosen = np.where(self._due, site[:, 0], 0).astype(np.int64)
        if (chosen < 0).any() or (chosen >= self.scenario.choices).any():
            refuse = "" if self.scenario.refuse_price is None else ", or one more to refuse"
            raise ValueError(f"a chosen site must be between 0 and {self.scenario.sites}, which is the cloud{refuse}")
        self._site, self._phase = chosen, ALLOCATOR
        return FleetOutcome({})

    def _serve(self, share: np.ndarray) -> FleetOutcome:
        shares = share.reshape(-1).astype(np.float64)
        if not np.isfinite(shares[self._due]).all():
            raise ValueError("shares of steps must be finite")
        due, home, (rows, cursor) = self._due.copy(), self._of("home"), self._at
        bound = np.where(due, self.bounds[rows, cursor], 0.0)
        result = np.zeros((self.copies, physics.RESULT))
        physics.place_all(self.fixed, self._requests, self.books, due, self._site, shares, result)
        utility = result[:, physics.UTILITY]
        where = np.where(self._site < self.scenario.sites, self._site, home)  # the cloud's falls to the home
        self._made[np.arange(self.copies), where] += utility
        reward = self._tensor(utility[:, None])
        rewards = {ROUTER: reward, ALLOCATOR: reward}
        self._advance(rewards)
        columns = (due, home, result, bound, self.books.loads.copy(), cursor)
        return FleetOutcome(rewards, *(torch.from_numpy(values) for values in columns))

    def _of(self, name: str) -> np.ndarray:
        """A column of the request that is due in each copy ``[E]``."""
        own: np.ndarray = getattr(self._requests, name)[self._at]
        return own

    def _grades(self) -> np.ndarray:
        """Curve of the request that is due in each copy ``[E, 9]``."""
        grades = np.zeros((self.copies, GRADES))
        physics.grades_all(self.fixed, self._requests, self.books, self._due, grades)
        return grades

    @property
    def _at(self) -> tuple[Ints, Ints]:
        """Where the request that is due in each copy stands in columns ``[E, N]``."""
        return np.arange(self.copies), np.minimum(self.books.cursor, self._requests.arrival_s.shape[1] - 1)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.tensor(values, device=self.device)

    def _cacher_view(self) -> CacherView:
        books, fixed, shape = self.books, self.fixed, self.books.resident.shape
        now_s = self._frame * self.scenario.frame_s
        work_s = fixed.fixed_s + fixed.full_steps * fixed.step_s
        replicas = books.resident.sum(1, keepdims=True, dtype=np.float64)
        load_s, backlog_s = np.empty(shape), np.empty(shape[:2])
        physics.outlook_all(fixed, books, now_s, load_s, backlog_s)
        wide = (fixed.size_gb, load_s, work_s, fixed.model_speed[:-1], replicas)
        per_model = (np.broadcast_to(values, shape) for values in wide)
        per_site = (np.broadcast_to(values, shape[:2]) for values in (fixed.memory_gb, fixed.speed[:-1]))
        columns = (books.demand, books.resident.astype(np.bool_), *per_model, *per_site, backlog_s)
        return CacherView(*(self._tensor(values) for values in columns))

    def _router_view(self) -> RouterView:
        books, fixed, model, grades = self.books, self.fixed, self._of("model"), self._grades()
        demand = books.demand.sum(1)
        share = demand[np.arange(self.copies), model] / np.maximum(demand.sum(1), 1e-12)
        replicas = books.resident.sum(1, dtype=np.float64)[np.arange(self.copies), model]
        age_s = np.where(self._due, self._of("arrival_s") - books.report * fixed.report_s, 0.0)
        columns = (
            *(self._due, self._of("home"), model, self._of("pictures"), self._of("weight"), self._of("deadline_s")),
            *(grades[:, 0], grades[:, -1], grades, fixed.refuse_price * self._of("weight")),
            *(age_s, share, replicas),
        )
        order = (
            *(physics.BACKLOG, physics.LOAD, physics.FULL, physics.LEAST, physics.NETWORK, physics.SLACK),
            *(physics.PRICE, physics.SPEED, physics.PACE, physics.WORK_PRICE),
        )
        seen = (self._seen[..., column] for column in order)
        resident = self._seen[..., physics.RESIDENT] > 0
        return RouterView(*(self._tensor(values) for values in (*columns, *seen, resident)))

    def _allocator_view(self) -> AllocatorView:
        fixed, model, rows, grades = self.fixed, self._of("model"), np.arange(self.copies), self._grades()
        steps = self._of("more")[:, ASKED]
        accepted = self._site <= self.scenario.sites
        site = np.where(accepted, self._site, self.scenario.sites)
        seen = self._seen[rows, site]
        backlog_s, mean_s = np.zeros((2, self.copies))
        physics.backlogs_all(self._requests, self.books, self._due, self._site, self._seen, backlog_s, mean_s)
        slack_s = seen[:, physics.SLACK] + seen[:, physics.BACKLOG] - backlog_s
        columns = (
            *(self._due & accepted, self._site, self._site == self.scenario.sites, model, self._of("weight")),
            *(self._of("deadline_s"), backlog_s, mean_s),
            *(seen[:, column] for column in (physics.LOAD, physics.NETWORK, physics.LEAST, physics.FULL)),
            *(slack_s, seen[:, physics.SPEED], seen[:, physics.WORK_PRICE]),
            *(np.minimum(fixed.least_steps[model], steps), steps, grades[:, 0], grades[:, -1], grades),
        )
        return AllocatorView(*(self._tensor(values) for values in columns))


def entries(scenario: FleetScenario) -> int:
    """Entries of the largest array of an episode."""
    per_request = physics.RESULT * int(scenario.requests_at_most)
    per_site = max(scenario.sites, len(scenario.kinds_of_models), int(scenario.changes_at_most))
    return max(per_request, scenario.sites * per_site)
