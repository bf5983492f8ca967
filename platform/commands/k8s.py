# SPDX-License-Identifier: Apache-2.0
"""``edgegen k8s``: from a service config to what a cluster is given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgegen.envs.core.paths import as_path
from edgegen.platform.commands.live import require_serve_extra
from edgegen.platform.commands.options import activity, input_file, output_folder, progress_console
from edgegen.platform.overrides import parse_overrides

MANIFESTS = "k8s"

k8s = typer.Typer(help="Kubernetes manifests of a service.")


@k8s.callback()
def _group() -> None:
    """Keep the name of the one command."""


@k8s.command()
def render(
    service: Annotated[
        Path,
        typer.Argument(
            metavar="SERVICE", parser=str, callback=input_file("service config", ".yaml"), help="A service config."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", parser=str, callback=output_folder, help="Folder of the overlay."),
    ],
    values: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=str,
            callback=input_file("values", ".yaml"),
            help="What the cluster is like: images, storage classes, sizes, ways in.",
        ),
    ] = None,
    manifests: Annotated[str, typer.Option(metavar="DIR", help="The folder k8s of edgegen's repository.")] = MANIFESTS,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a value, e.g. site.memory=8Gi; repeatable."),
    ] = None,
) -> None:
    """Write the Kustomize overlay of a service, again after every change of it; other files in its folder stay."""
    folder = as_path(manifests, "Folder of manifests")
    require_serve_extra("A service config", ("pydantic", "fastapi"))
    from edgegen.platform.kubernetes.folder import write_overlay
    from edgegen.platform.kubernetes.overlay import overlay
    from edgegen.platform.kubernetes.serve_config import serve_config
    from edgegen.platform.kubernetes.values import load_values
    from edgegen.serve.config import load_config

    config = load_config(str(service))
    cluster = load_values(values, parse_overrides(settings or []))
    made = overlay(config, {}, cluster, folder, out)  # fail before Serve is asked, which takes seconds
    notes = progress_console()
    with activity(notes, "Asking Ray Serve for its configuration"):
        made = overlay(config, serve_config(service), cluster, folder, out)
    for name in write_overlay(out, made):
        notes.print(str(out / name), soft_wrap=True)
    notes.print(f"Look:  kubectl kustomize {out}", soft_wrap=True)
    notes.print(f"Apply: kubectl apply --server-side -k {out}", soft_wrap=True)
