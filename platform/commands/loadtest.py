# SPDX-License-Identifier: Apache-2.0
"""``edgegen loadtest``: policies of a live service, compared on the same sequences of requests."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from edgegen.envs.core.errors import InputError
from edgegen.platform.commands.compare import make_entrants
from edgegen.platform.commands.live import require_serve_extra
from edgegen.platform.commands.options import (
    SeedOption,
    SetOption,
    activity,
    console,
    output_folder,
    place,
    progress_console,
)
from edgegen.platform.overrides import parse_overrides

SEQUENCES = 5


def loadtest(
    policy: Annotated[
        list[str],
        typer.Option(
            metavar="POLICY",
            help="Rule, or the folder of a trained policy; in quotes, several as ROLE=POLICY. First: reference.",
        ),
    ],
    config: Annotated[str, typer.Option(metavar="NAME", help="Shipped config, or the path of a .yaml file.")] = "fleet",
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME", help="Name of a policy that is no rule, in order; repeatable."),
    ] = None,
    arrivals: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            callback=place,
            help="poisson, bursty, or a trace: its name, a .parquet file, or a folder that was recorded.  "
            "[default: bursty]",
        ),
    ] = None,
    sequences: Annotated[
        int, typer.Option("--sequences", "-n", min=1, max=1000, help="Sequences that each policy serves.")
    ] = SEQUENCES,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=str, callback=output_folder, help="Folder for results.  [default: runs/loadtest-TIME]"
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the service.  [default: any free one]")
    ] = None,
    seed: SeedOption = 0,
    settings: SetOption = None,
) -> None:
    """Run a service, let every policy serve the same sequences of requests, and compare them.

    The service is a fleet; its edges are measured first. A sequence is an episode of the world that the service then
    is, drawn with the seed, and is sent in an open loop; --set changes what comes, as in a scenario, such as load or
    frames. The same policies are also simulated on the same sequences.
    """
    require_serve_extra()
    from edgegen.platform.run_folder import take_new
    from edgegen.platform.runs.live_comparison import beside, live_service, served_table, world_of, write_live
    from edgegen.serve.config import load_config

    service = load_config(config, {"seed": seed})
    if service.kind != "fleet":
        raise InputError(
            f"Service config '{service.name}' is of the kind {service.kind}, but one of the kind fleet is needed here."
        )
    traffic = parse_overrides(settings or [])
    speed = [service.capacities_gcycles_s()[k] for k, edge in enumerate(service.edges) if edge.cloud is None]
    expected = world_of(service, speed, arrivals, traffic)
    make_entrants(policy, labels or [], None, expected, seed)  # fail before anything is started
    notes = progress_console()
    folder = out if out is not None else Path("runs") / time.strftime("loadtest-%Y%m%d-%H%M%S")
    with take_new(folder, "load test", out is None) as taken:
        notes.print(f"Starting {len(service.edges)} edge servers", soft_wrap=True)
        with live_service(service.model_copy(update={"policy": policy[0]}), port) as live:
            live.measure(traffic, arrivals)
            entrants = make_entrants(policy, labels or [], None, live.world, seed)
            named = dict(zip(entrants, policy, strict=True))
            with activity(notes) as say:
                test = live.compared(
                    named, sequences, seed, lambda name, n: say(f"Sequence {n + 1} of {sequences}, served by {name}")
                )
            simulated = live.simulated(named, sequences, seed)
        write_live(test, simulated, taken.path, lambda text: notes.print(Text(text), soft_wrap=True))
    shown = console()
    shown.print(test.comparison.table())
    shown.print(served_table(test.comparison))
    shown.print(beside(test.comparison, simulated))
    shown.print(f"Everything is in {taken.path}", soft_wrap=True)
