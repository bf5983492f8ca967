# SPDX-License-Identifier: Apache-2.0
"""The wheel: built from a copy of the working tree, installed where the repository can not be seen."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("envs", "algorithms", "platform", "serve")
SHIPPED = {".py", ".yaml", ".json", ".safetensors", ".txt", ".md", ".html", ".css", ".js", ".svg"}


def test_the_platform_folder_is_no_package():
    # It would shadow the standard library's `platform` for every process started in the repository root.
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not (ROOT / "src" / "edgegen" / "platform" / "__init__.py").exists()


def test_constraints_pin_every_direct_dependency():
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in _lines(ROOT / "constraints.txt")}
    for name in ("gymnasium", "mlflow", "pydantic", "ray", "torch", "typer", "diffusers", "transformers", "pytest"):
        assert name in pinned
    for line in _lines(ROOT / "constraints.txt"):
        assert "==" in line
        assert "+" not in line  # a local version such as +cpu exists on some machines only
        assert "@" not in line


def test_continuous_integration_runs_the_same_targets_as_people_do():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    targets = ["make lint", "make test", "make soak"]
    assert script.read_text().splitlines()[-3:] == targets
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert all(f"run: {target}\n" in workflow for target in targets)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    copy = tmp_path_factory.mktemp("source") / "edgegen"
    everywhere = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*_cache")
    here = shutil.ignore_patterns(".venv", ".git", "runs", "out", "build", "dist", "mlruns", "tests")

    def ignored(folder, names):
        """Leave out what commands write here; a room may have a folder of the same name."""
        return everywhere(folder, names) | (here(folder, names) if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignored)
    target = copy.parent / "dist"
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", target, copy]
    subprocess.run(build, check=True, capture_output=True, text=True, cwd=copy.parent, timeout=300)
    (built,) = target.glob("*.whl")
    return built


@pytest.mark.e2e
def test_the_wheel_holds_real_files_of_every_room(wheel):
    with zipfile.ZipFile(wheel) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        for room in ROOMS:
            for path in _shipped(ROOT / room):
                entry = entries.get(f"edgegen/{path.relative_to(ROOT)}")
                assert entry is not None, f"{path} is missing in the wheel"
                assert entry.file_size == path.stat().st_size
        links = [name for name, entry in entries.items() if (entry.external_attr >> 28) == 0o12]
        assert not links
        assert "edgegen/py.typed" in entries
        assert any(name.endswith("envs/scenarios/demo.yaml") for name in entries)
        assert not [name for name in entries if name.startswith(("platform/", "tests/", "envs/"))]


@pytest.mark.e2e
def test_the_installed_wheel_runs_elsewhere(wheel, tmp_path):
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True, capture_output=True, text=True, timeout=120)
    # Dependencies come from here instead of being downloaded, but not this repository's own editable installation:
    # folders on PYTHONPATH are searched for modules, their .pth files are not read.
    libraries = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def output(*arguments):
        done = subprocess.run(
            [*arguments], cwd=elsewhere, env=libraries, check=True, capture_output=True, text=True, timeout=120
        )
        return done.stdout

    where = output(python, "-c", "import edgegen.platform.cli as cli; print(cli.__file__)").strip()
    assert Path(where).is_relative_to(environment)
    assert "Usage: edgegen" in output(scripts / "edgegen", "--help")
    assert "ladts-paper" in output(scripts / "edgegen", "scenarios")
    assert "capacity-weighted" in output(scripts / "edgegen", "compare", "local", "--episodes", "1")
    assert not list(elsewhere.iterdir())


def _shipped(folder):
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in SHIPPED and "__pycache__" not in path.parts
    ]


def _lines(path):
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
