# SPDX-License-Identifier: Apache-2.0
"""``edgegen serve`` and ``edgegen generate``: the live service and a client for it."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.seeds import MAX_SEED
from edgegen.envs.urls import shown
from edgegen.platform.commands.compare import say_notes
from edgegen.platform.commands.options import (
    AddressOption,
    JsonOption,
    SeedOption,
    SetOption,
    activity,
    console,
    output_folder,
    progress_console,
    write_then_show,
)
from edgegen.platform.overrides import parse_overrides

if TYPE_CHECKING:
    from edgegen.serve.config import ServiceConfig

SERVE_MODULES = ("diffusers", "transformers", "fastapi", "uvicorn", "httpx", "PIL")
DEFAULT_PORT = 8000
DEFAULT_PICTURES = 12


def require_serve_extra(purpose: str = "The live service", modules: Sequence[str] = ()) -> None:
    """Refuse to go on without the libraries of the live service.

    Args:
        purpose: What needs them, as the beginning of the sentence.
        modules: Those that are needed; all if empty.

    Raises:
        InputError: If one is missing.
    """
    for name in modules or SERVE_MODULES:
        if importlib.util.find_spec(name) is None:
            raise InputError(f"{purpose} needs the library '{name}'; install edgegen[serve].")


def serve(
    config: Annotated[str, typer.Option(metavar="NAME", help="Shipped config, or the path of a .yaml file.")] = "demo",
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY", help="Rule, folder of a trained policy, or models:/NAME@ALIAS, instead of the config's."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on that interface.")] = DEFAULT_PORT,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Address of the interface to listen on; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    address: AddressOption = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MAX_SEED, help="Seed of random choices, instead of the config's.")
    ] = None,
    ready_timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=1,
            help="Longest wait until all edges are healthy, downloads included.  [default: 1800]",
        ),
    ] = None,
    settings: SetOption = None,
) -> None:
    """Run the live service until Ctrl-C."""
    require_serve_extra()
    from edgegen.serve.config import load_config

    overrides = parse_overrides(settings or [])
    overrides |= {name: value for name, value in (("seed", seed), ("policy", policy)) if value is not None}
    service = load_config(config, overrides)
    from edgegen.serve.kinds.cast import parts_of
    from edgegen.serve.running import READY_TIMEOUT_S, running_service

    parts_of(service)  # fail before anything is started
    ready_timeout_s = READY_TIMEOUT_S if ready_timeout is None else ready_timeout
    notes = progress_console()
    _say_who_may_ask(service, host, notes)
    _say_what_is_new(service, notes)
    notes.print(f"Starting {len(service.edges)} edge servers with policy {service.policy}", soft_wrap=True)
    with running_service(service, port, host=host, address=address, ready_timeout_s=ready_timeout_s) as url:
        notes.print(f"Ready:  {url}", soft_wrap=True)
        notes.print(f"Try:    {curl_line(url, service.keys is not None)}", soft_wrap=True)
        notes.print("Stop:   Ctrl-C")
        threading.Event().wait()


def _say_who_may_ask(service: ServiceConfig, host: str, notes: Console) -> None:
    """Warn of a service that anybody in the network may use, or whose keys anybody on the way may read."""
    from edgegen.envs.urls import is_loopback
    from edgegen.serve.running import ANY

    if is_loopback(host) and host not in ANY:
        return
    if service.keys is None:
        notes.print(
            f"Warning: the service listens on {host} and asks for no API keys: whoever can reach it may use it. "
            "Make some with edgegen keys, and name their file in the config as keys.",
            soft_wrap=True,
        )
    elif service.tls_certificate is None:
        notes.print(
            f"Warning: the service listens on {host} without TLS: API keys, prompts and pictures can be read on the "
            "way, unless something in front of it sees to that (tls_certificate, tls_key).",
            soft_wrap=True,
        )


def _say_what_is_new(service: ServiceConfig, notes: Console) -> None:
    """Say what of the service policies have not met in training, taking its edges as busy as a training would."""
    from edgegen.algorithms.core.catalog import make_policy
    from edgegen.algorithms.core.registered import is_registered
    from edgegen.serve.kinds.cast import parts_of
    from edgegen.serve.kinds.registry import training_scenario

    for part in set(parts_of(service).values()):
        if part.kind == service.kind and not is_registered(part.name):
            say_notes({part.name: make_policy(part.name, training_scenario(service))}, notes)


def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]...", help="What to paint; drawn at random if left out.")
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", parser=str, callback=output_folder, help="Folder for the pictures and the contact sheet."
        ),
    ] = Path("out"),
    url: Annotated[
        str, typer.Option(metavar="URL", help="The service, with or without /v1.")
    ] = f"http://127.0.0.1:{DEFAULT_PORT}",
    count: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help=f"Pictures, prompts repeating in turn.  [default: one per prompt, or {DEFAULT_PICTURES}]",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Model; the service's first unless given.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps; the model's default unless given.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Most requests under way.")] = 8,
    seed: SeedOption = 0,
    json: JsonOption = None,
) -> None:
    """Send prompts to a running service; saves pictures and a contact sheet."""
    require_serve_extra()

    from edgegen.platform.files import draw_or_tell, write_bytes, write_json
    from edgegen.platform.screen import PlainTable
    from edgegen.serve.http.client import contact_sheet, demo_prompts, generate_burst

    wanted = count or len(prompts or []) or DEFAULT_PICTURES
    asked = [prompts[n % len(prompts)] for n in range(wanted)] if prompts else demo_prompts(wanted, seed)
    notes = progress_console()
    with activity(notes, f"Generating {wanted} pictures"):
        results = generate_burst(url, asked, model=model, steps=steps, concurrency=concurrency, seed=seed)
    table = PlainTable(title=f"{wanted} pictures")
    for column in ("file", "prompt", "edge", "queue, s", "generation, s", "round trip, s"):
        table.add_column(column, justify="right" if column.endswith(", s") else "left")
    rows, writes = [], []
    for number, result in enumerate(results):
        file = out / f"picture-{number:03d}.png"
        writes.append(partial(write_bytes, file, result.png))
        times = (result.queue_s, result.generation_s, result.round_trip_s)
        table.add_row(file.name, result.prompt, result.server, *(f"{value:.2f}" for value in times))
        rows.append({**{key: value for key, value in asdict(result).items() if key != "png"}, "file": file})
    data = {"format": "edgegen-generation-1", "url": shown(url), "seed": seed, "pictures": rows}
    if json is not None:
        writes.append(partial(write_json, json, data))
    write_then_show(writes, lambda: console().print(table))
    sheet = draw_or_tell(
        lambda: [contact_sheet(results, out / "contact-sheet.png")], lambda text: notes.print(text, soft_wrap=True)
    )
    together = f", all together on {sheet[0]}" if sheet else ""
    notes.print(f"Pictures are in {out}{together}", soft_wrap=True)


def curl_line(url: str, with_key: bool = False) -> str:
    """Return a command that asks a running service for one picture.

    Args:
        url: The service.
        with_key: Whether it wants an API key, which the environment then holds.
    """
    key = '-H "Authorization: Bearer $EDGEGEN_API_KEY" ' if with_key else ""
    return (
        f"curl -s {url}/v1/images/generations -H 'Content-Type: application/json' {key}"
        """-d '{"prompt": "a red circle"}'"""
    )
