"""Turns a service config of edgegen into the configuration that Ray Serve and a RayService take.

    python k8s/serve_config.py k8s/overlays/kind/service.yaml > k8s/overlays/kind/serve-config.yaml

The input is what `edgegen serve --config` reads. The output is what `serve build` emits for the application of that
config, except that the application is named, and built on the cluster from the config itself: `serve build` knows no
builders, so it is given a module with the built application.
"""

from __future__ import annotations

import sys
import tempfile
import uuid
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import yaml
from ray.serve.scripts import build as serve_build

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.yaml_files import read_mapping
from edgegen.serve.config import load_config

BUILDER = "edgegen.serve.app:app"


def serve_config(path: Path) -> dict[str, Any]:
    """Return the Serve configuration of a service config.

    Raises:
        InputError: If the config is impossible.
    """
    load_config(path)
    args = read_mapping(path, "Service config")
    module = f"edgegen_application_{uuid.uuid4().hex}"  # imported, so every call needs a name of its own
    search_path = list(sys.path)
    with tempfile.TemporaryDirectory() as folder:
        source = f"from edgegen.serve.app import app\n\napplication = app({args!r})\n"
        Path(folder, f"{module}.py").write_text(source, encoding="utf-8")
        built = Path(folder, "built.yaml")
        command = [f"{module}:application", "--app-dir", folder, "--output-path", str(built)]
        try:
            with redirect_stdout(sys.stderr):  # its remarks are no part of the configuration
                serve_build.main(command, standalone_mode=False)
        finally:
            sys.path[:] = search_path
            sys.modules.pop(module, None)
        config: dict[str, Any] = yaml.safe_load(built.read_text(encoding="utf-8"))
    (application,) = config["applications"]
    application |= {"name": "edgegen", "import_path": BUILDER}
    # Next to the import path, because the two belong together; the rest keeps its order.
    config["applications"] = [
        {name: application[name] for name in ("name", "route_prefix", "import_path")}
        | {"args": args}
        | {name: value for name, value in application.items() if name not in ("name", "route_prefix", "import_path")}
    ]
    return config


def main(arguments: list[str]) -> int:
    """Print the configuration of the config that is named; returns the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("Usage: python k8s/serve_config.py SERVICE.yaml\n")
        return 2
    path = Path(arguments[0])
    try:
        config = serve_config(path)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"# Made from {path.name}: python k8s/serve_config.py {path.as_posix()}\n")
    yaml.safe_dump(config, sys.stdout, sort_keys=False, width=120)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
