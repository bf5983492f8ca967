# SPDX-License-Identifier: Apache-2.0
"""The worked diffs: each applies to this checkout, and the tests that it brings pass there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIFFS = sorted((ROOT / "docs" / "diffs").glob("*.diff"))
WHOLE = ("envs", "algorithms", "platform", "serve", "src", "tests", "docs")


@pytest.mark.e2e
@pytest.mark.parametrize("diff", DIFFS, ids=lambda diff: diff.stem)
def test_a_diff_applies_and_its_tests_pass(diff, tmp_path):
    for name in WHOLE:
        shutil.copytree(
            ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "results")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run(["git", "apply", "--verbose", diff], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    brought = [line.removeprefix("+++ b/") for line in diff.read_text().splitlines() if line.startswith("+++ b/tests/")]
    assert brought
    lint = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=tmp_path, capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *brought, "tests/test_house.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert tests.returncode == 0, tests.stdout + tests.stderr


def test_contributors_are_led_to_every_diff():
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert DIFFS
    for diff in DIFFS:
        assert f"(docs/diffs/{diff.name})" in page
