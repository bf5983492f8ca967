# SPDX-License-Identifier: Apache-2.0
"""Runs command lines of edgegen one after the other in one process and one session of Ray: JSON in, JSON out."""

import json
import sys
from typing import Any

from typer.testing import CliRunner

from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.platform.cli import app

if __name__ == "__main__":
    done: list[dict[str, Any]] = []
    with ray_session(num_cpus=2):
        for line in json.loads(sys.argv[1]):
            result = CliRunner().invoke(app, line)
            done.append({"code": result.exit_code, "out": result.stdout, "notes": result.stderr})
            if result.exit_code != 0:
                done[-1]["notes"] += repr(result.exception)
                break
    sys.stdout.write(json.dumps(done))
