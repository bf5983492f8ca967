# SPDX-License-Identifier: Apache-2.0
"""The tuning of a rule as a unit: with the training episodes of a learner, and resumed like one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.codec import read_manifest
from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.core.rulebook import rule_book
from edgegen.envs.core.world import WorldScenario
from edgegen.platform.engine.doing import Effort
from edgegen.platform.engine.unit import RULE, Evaluation, Unit
from edgegen.platform.runs.rule_search import POLICY_FOLDER, RuleSearch, TuneRequest, within_budget


@dataclass(frozen=True)
class Spent:
    """What a tuning took.

    Attributes:
        trials: Sets of constants that were tried.
        episodes: Training episodes of each.
        played: Training episodes in all, the final round included.
        requests: Requests that were simulated in all.
        start: Training episodes that the learner plays for its start, beside those that it learns from.
    """

    trials: int
    episodes: int
    played: int
    requests: int
    start: int = 0


def budget_text(spent: Sequence[Spent], episodes: int) -> str:
    """Say what the tunings of a rule took: trials × episodes × requests.

    Args:
        spent: What each took.
        episodes: Training episodes that the learner whose budget it was learns from.
    """
    trials, each = spent[0].trials, spent[0].episodes
    finals = max(one.played - trials * each for one in spent)
    per_episode = sum(one.requests / one.played for one in spent) / len(spent)
    requests = sum(one.requests for one in spent) / len(spent)
    start = spent[0].start
    own = f", {start} of them for its start" if start else ""
    return (
        f"{trials} trials \N{MULTIPLICATION SIGN} {each} training episodes \N{MULTIPLICATION SIGN} {per_episode:,.0f} "
        f"requests, and at most {finals} episodes in the final round: {requests:,.0f} requests for each seed, no more "
        f"than the {episodes + start} episodes of a training{own}"
    )


@dataclass(frozen=True)
class Tuning(Unit):
    """A search of a rule's constants that plays no more training episodes than a training of :attr:`episodes` does.

    Those that the training plays for its start, beside the others, are in the budget.

    Its folder holds the files of the search and ``policy/``.

    Attributes:
        explore: Whether a rule that draws its actions does so when it is judged.
        start: Training episodes that the learner plays for its start.
    """

    kind: ClassVar[str] = "tuning"
    explore: bool = True
    start: int = 0

    @classmethod
    def of(
        cls, title: str, world: WorldScenario, rule: str, seed: int, episodes: int, evaluation: Evaluation,
        explore: bool = True, start: int = 0,
    ) -> Self:  # fmt: skip
        """Return the tuning of a rule with the budget of a training.

        Args:
            title: What people see while it runs.
            world: Where.
            rule: Name of the rule.
            seed: Training seed: of the episodes and of the proposals.
            episodes: Training episodes of the learner.
            evaluation: What the result is judged on.
            explore: See the class.
            start: See the class.
        """
        trials, each = within_budget(episodes + start)
        split = {"trials": trials, "episodes_per_trial": each}
        defaults = rule_book(world.kind).tunable[rule].constants().model_dump()
        return cls(
            title, world, rule, {**split, **defaults}, split, "", seed, episodes, (evaluation,),
            explore=explore, start=start,
        )  # fmt: skip

    @property
    def essence(self) -> dict[str, object]:
        """See :meth:`Unit.essence`."""
        return super().essence if self.explore else {**super().essence, "explore": False}

    @property
    def modes(self) -> dict[str, bool]:
        """See :meth:`Unit.modes`."""
        return {RULE: self.explore}

    def work(self, folder: Path, effort: Effort) -> None:
        """See :meth:`Unit.work`."""
        search = self._search(folder)
        if search.trials:
            effort.resumed(self._share(search.episodes))
        while not search.over:
            search.step()
            effort.note(self._share(search.episodes), min(trial.value for trial in search.trials))
        search.save()

    def _share(self, played: int) -> int:
        """Episodes of :attr:`episodes` that stand for those played so far of the whole budget."""
        return min(played * self.episodes // (self.episodes + self.start), self.episodes)

    def policy(self, folder: Path, evaluation: Evaluation) -> Policy:
        """See :meth:`Unit.policy`."""
        return make_policy(str(self.policy_folder(folder)), evaluation.world, evaluation.seed)

    @staticmethod
    def policy_folder(folder: Path) -> Path:
        """Where the policy of a finished tuning is."""
        return folder / POLICY_FOLDER

    def spent(self, folder: Path) -> Spent:
        """Return what a finished tuning took."""
        tuning, search = read_manifest(self.policy_folder(folder))["training"], self._search(folder)
        return Spent(tuning["trials"], tuning["episodes"], search.episodes, tuning["simulated_requests"], self.start)

    def _search(self, folder: Path) -> RuleSearch:
        trials, each = self.changed["trials"], self.changed["episodes_per_trial"]
        return RuleSearch(TuneRequest(self.name, self.world, trials, each, self.seed), folder)
