# SPDX-License-Identifier: Apache-2.0
"""The house stands: `platform/` never shadows the standard library, and the light rooms stay light."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python(*arguments: str) -> str:
    """Run a fresh interpreter in the repository root, where a shadowing module would be found first."""
    ran = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_platform_has_no_init() -> None:
    assert (ROOT / "platform").is_dir()
    assert not (ROOT / "platform" / "__init__.py").exists(), (
        "platform/__init__.py makes the folder a package that shadows the standard library's `platform` for every "
        "process started in the repository root; delete it"
    )


def test_the_standard_library_is_found_from_the_root() -> None:
    assert python("-c", "import platform; print(platform.python_version())") == ".".join(map(str, sys.version_info[:3]))
    assert "platform.py" in python("-c", "import platform; print(platform.__file__)")
    assert "pytest" in python("-m", "pytest", "--version")
    assert python("-m", "platform")  # prints the system's name


def test_the_rooms_are_those_at_the_top() -> None:
    for room in ("envs", "algorithms", "platform", "serve"):
        link = ROOT / "src" / "edgegen" / room
        assert link.resolve() == ROOT / room
    assert python("-c", "import edgegen.platform.runs.replay as r; print(r.__name__)") == "edgegen.platform.runs.replay"


def test_light_modules_import_nothing_heavy() -> None:
    modules = [
        "envs.offloading.world",
        "algorithms.rules.offloading",
        "envs.pettingzoo",
        "envs.offloading.trace",
        "platform.runs.replay",
    ]
    code = f"""
import importlib, sys
for module in {modules}:
    importlib.import_module("edgegen." + module)
    heavy = {{"ray", "diffusers", "transformers", "mlflow"}} & set(sys.modules)
    assert not heavy, f"edgegen.{{module}} imports {{heavy}}"
print("light")
"""
    assert python("-c", code) == "light"
