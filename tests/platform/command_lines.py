# SPDX-License-Identifier: Apache-2.0
"""Command lines of edgegen as tests give them, in this process."""

import sys
from typing import Any

from typer.testing import CliRunner, Result

from edgegen.platform.cli import app

EDGEGEN = [sys.executable, "-m", "edgegen.platform.cli"]
"""The same in a process of its own."""
TINY = ["--set", "slots=4", "--set", "tasks_per_slot.high=3"]
"""An offloading world that takes no time."""


def run(*arguments: object, **options: Any) -> Result:
    """Run a command line; returns how it ended and what it wrote."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def refused(*arguments: object) -> str:
    """Run a wrong command line; returns the sentence it was refused with."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].endswith((".", "?"))
    return lines[0]
