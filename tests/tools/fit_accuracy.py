# SPDX-License-Identifier: Apache-2.0
"""How near a fitted world comes to what was served: delays of a service in virtual time, and of worlds fitted to it.

For every seed and policy a service with four emulated edges answers 5,000 requests, and both kinds of worlds are fitted
to its recording: one that draws requests like those that came, and one that plays these. Each is simulated for 32
episodes with the same policy. Run from the repository: ``python -m tests.tools.fit_accuracy``.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from edgegen.algorithms.core.catalog import make_policy
from edgegen.envs.core.records import read_records
from edgegen.platform.commands.trace import AT_ONCE_S
from edgegen.platform.traces.recording import beside_served, fitted_fleet
from edgegen.serve.kinds.fleet_scenario import training
from tests.serve.record.emulated import requests_of, serve_requests, service


def main() -> None:
    """Print a line for every seed, policy and kind of world."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--policy", nargs="+", default=["price-greedy", "earliest"])
    parser.add_argument("--rate", type=float, default=1.2, help="requests a second")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    for seed in range(given.seeds):
        for policy in given.policy:
            with tempfile.TemporaryDirectory() as name:
                config = service(Path(name), policy=policy)
                serve_requests(config, requests_of(5000, given.rate, seed))
                folder = Path(name) / "recordings"
                records = read_records(folder)
                base = training(config).model_copy(update={"report_s": AT_ONCE_S})
                for arrivals, path in (("fitted", None), ("recorded", str(folder))):
                    names = (config.homes, tuple(config.models))
                    world = fitted_fleet(records, "Recording", base, *names, trace_path=path)
                    rows = beside_served(records, world, make_policy(policy, world, 0), 32, 0)
                    said = ", ".join(
                        f"{title} {one:.3f} {two:.3f} {100 * (two / one - 1):+.1f} %" for title, one, two in rows
                    )
                    sys.stdout.write(f"seed {seed}, {policy}, {arrivals}: {said}\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
