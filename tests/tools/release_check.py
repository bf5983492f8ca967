# SPDX-License-Identifier: Apache-2.0
"""What has to hold before a version is tagged: versions agree, and what would be uploaded installs and runs.

Run it as `make release-check`. It builds `dist/` anew: the sdist, and the wheel out of the sdist. It needs PyPI.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import typer
import yaml

ROOT = Path(__file__).parents[2]
OLDEST = (3, 11)
NEWEST = (3, 20)
COMPARISON = ("compare", "-s", "demo", "local", "least-delay", "-n", "1")


def complaints(root: Path, unreleased: bool = False) -> list[str]:
    """Return where files disagree about the version, a sentence each.

    Args:
        root: The checkout.
        unreleased: Whether the version has no date yet.
    """
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = []
    if citation["version"] != version:
        found.append(f"CITATION.cff has version {citation['version']}, but pyproject.toml has {version}.")
    if unreleased:
        return found
    dated = re.search(rf"^## \[{re.escape(version)}\] - (\d{{4}}-\d{{2}}-\d{{2}})$", changes, re.MULTILINE)
    if dated is None:
        found.append(f"CHANGELOG.md has no line '## [{version}] - YYYY-MM-DD'.")
    elif str(citation.get("date-released")) != dated[1]:
        cited = citation.get("date-released")
        found.append(f"CITATION.cff has date-released {cited}, but CHANGELOG.md has {dated[1]} for {version}.")
    return found


def pythons() -> list[str]:
    """Return the supported interpreters of this machine, oldest first."""
    names = [f"python3.{minor}" for minor in range(OLDEST[1], NEWEST[1])]
    found = [path for name in names if (path := shutil.which(name)) is not None]
    # A name that a version manager holds for an interpreter that is not installed starts nothing.
    return [
        path for path in found if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0
    ]


def build(root: Path, dist: Path, tools: Path) -> tuple[Path, Path]:
    """Build the sdist, the wheel out of it, and check what an index would refuse.

    Args:
        root: The checkout.
        dist: Where to; emptied first.
        tools: Python that has ``build`` and ``twine``.

    Returns:
        Sdist and wheel.
    """
    shutil.rmtree(dist, ignore_errors=True)
    _run(tools, "-m", "build", "--outdir", dist, root)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    _run(tools, "-m", "twine", "check", "--strict", sdist, wheel)
    return sdist, wheel


def try_out(python: str, wheel: Path, folder: Path) -> None:
    """Install a wheel with the tested versions into a clean environment, and play a comparison elsewhere."""
    own = environment(python, folder / "venv", "-c", ROOT / "constraints.txt", wheel)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    for arguments in (("--version",), COMPARISON):
        _run(own.parent / "edgegen", *arguments, cwd=elsewhere)


def environment(python: str, folder: Path, *requirements: object) -> Path:
    """Make a virtual environment with some packages; returns its Python."""
    _run(python, "-m", "venv", folder)
    own = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    _run(own, "-m", "pip", "install", "--quiet", *requirements)
    return own


def _run(*words: object, cwd: Path | None = None) -> None:
    # Nothing of this checkout is to stand in for what is missing in an environment.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([str(word) for word in words], check=True, cwd=cwd, env=clean)


def main() -> int:
    """Check, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--unreleased", action="store_true", help="the version has no date yet: a rehearsal")
    unreleased = parser.parse_args().unreleased
    if found := complaints(ROOT, unreleased):
        typer.echo("\n".join(found), err=True)
        return 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tools = environment(sys.executable, folder / "tools", "build", "twine")
        sdist, wheel = build(ROOT, ROOT / "dist", tools)
        for number, python in enumerate(tried := pythons()):
            (folder / str(number)).mkdir()
            try_out(python, wheel, folder / str(number))
    names = ", ".join(Path(python).name for python in tried)
    typer.echo(f"{sdist.name} and {wheel.name} are sound; tried with {names}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
