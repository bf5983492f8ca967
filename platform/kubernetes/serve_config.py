# SPDX-License-Identifier: Apache-2.0
"""From a service config of edgegen to the configuration that Ray Serve and a RayService take.

The input is what ``edgegen serve --config`` reads. The output is what ``serve build`` emits for the application of that
config, except that the application is named, and built on the cluster from the config itself: ``serve build`` knows no
builders, so it is given a module with the built application.
"""

from __future__ import annotations

import io
import sys
import tempfile
import uuid
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from edgegen.envs.core.yaml_files import read_mapping

BUILDER = "edgegen.serve.app:app"


def serve_config(path: Path) -> dict[str, Any]:
    """Return the Serve configuration of a service config.

    Args:
        path: A service config that is possible.

    Raises:
        InputError: If it can not be read, or a policy does not fit it.
    """
    from ray.serve.scripts import build as serve_build

    args = read_mapping(path, "Service config")
    module = f"edgegen_application_{uuid.uuid4().hex}"  # imported, so every call needs a name of its own
    search_path = list(sys.path)
    with tempfile.TemporaryDirectory() as folder:
        source = f"from edgegen.serve.app import app\n\napplication = app({args!r})\n"
        Path(folder, f"{module}.py").write_text(source, encoding="utf-8")
        built = Path(folder, "built.yaml")
        command = [f"{module}:application", "--app-dir", folder, "--output-path", str(built)]
        try:
            with redirect_stdout(io.StringIO()):  # its remarks
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
