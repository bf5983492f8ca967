"""From a name or a folder to a policy."""

from __future__ import annotations

from pathlib import Path

from edgegen.algorithms.export import MANIFEST, load_policy
from edgegen.algorithms.policy import Policy
from edgegen.algorithms.rules import RULES, make_rule
from edgegen.envs.errors import InputError, did_you_mean
from edgegen.envs.scenario import Scenario

CHECKPOINT_PREFIX = "checkpoint-"
"""Checkpoints of a run are folders ``checkpoint-<episodes>``; each holds ``algorithm/`` and ``policy/``."""


def make_policy(name_or_path: str, scenario: Scenario, seed: int = 0) -> Policy:
    """Make a rule by name, or load a trained policy from a run, checkpoint or ``policy/`` folder.

    Raises:
        InputError: If there is neither, or the policy is damaged or does not fit the scenario.
    """
    if name_or_path in RULES:
        return make_rule(name_or_path, seed)
    return load_policy(find_policy_folder(name_or_path), scenario, seed)


def find_policy_folder(name_or_path: str) -> Path:
    """Find the ``policy/`` folder in a run (its latest checkpoint), a checkpoint, or the folder itself.

    Raises:
        InputError: If there is none.
    """
    folder = Path(name_or_path).expanduser()
    if not folder.exists():
        raise InputError(
            f"Unknown policy '{name_or_path}'; give a rule ({', '.join(RULES)}) or the folder of a trained policy."
            f"{did_you_mean(name_or_path, RULES)}"
        )
    latest = latest_checkpoint(folder)
    for candidate in (folder, folder / "policy", *([latest / "policy"] if latest else [])):
        if (candidate / MANIFEST).is_file():
            return candidate
    raise InputError(f"'{folder}' holds no trained policy: neither a run with a checkpoint nor a policy folder.")


def latest_checkpoint(run: Path) -> Path | None:
    """Return the checkpoint of a run with the most episodes; checkpoints appear whole, so the newest is complete."""
    if not run.is_dir():
        return None
    found = [
        (int(number), path)
        for path in run.glob(f"{CHECKPOINT_PREFIX}*")
        if (number := path.name.removeprefix(CHECKPOINT_PREFIX)).isdigit()
    ]
    return max(found)[1] if found else None
