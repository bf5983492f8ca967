# SPDX-License-Identifier: Apache-2.0
"""Processes that know the toy, as they know any plugin: by ``EDGEGEN_PLUGINS``."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PACKAGE = ROOT / "examples" / "plugin"
RULES = ("rules:Coin", "rules:Shortest")


def run(folder: Path, plugins: tuple[str, ...], *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with objects of the toy as plugins and MLflow's records beside them."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), str(PACKAGE), os.environ.get("PYTHONPATH")])),
        "EDGEGEN_PLUGINS": ",".join(f"edgegen_toy.{plugin}" for plugin in plugins),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "COLUMNS": "120",
    }
    ran = [sys.executable, *map(str, arguments)]
    return subprocess.run(ran, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
