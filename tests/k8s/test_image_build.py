# SPDX-License-Identifier: Apache-2.0
"""The image's first stage, built without a daemon: Debian's buildah as root, in a chroot, on a base of debootstrap.

The wheel that the image installs comes of it. The stages after it only install libraries and copy files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE_VARIABLE = "EDGEGEN_BASE_ROOTFS"
"""A folder with Debian, python3, python3-pip and python3-venv, instead of a new one by debootstrap."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""The authorities that this machine trusts."""
BASE = """FROM scratch
ADD . /
RUN ln -sf python3 /usr/bin/python && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
"""


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture
def rootfs(tmp_path):
    """What stands for the image of Python, which needs a registry."""
    if shutil.which("buildah") is None:
        pytest.skip("buildah is not installed; it builds images without a daemon")
    if os.geteuid() != 0:
        pytest.skip("buildah --isolation chroot needs root")
    if given := os.environ.get(BASE_VARIABLE):
        return Path(given)
    if shutil.which("debootstrap") is None:
        pytest.skip(f"debootstrap is not installed, and {BASE_VARIABLE} names no folder: images need a base")
    packages = "python3,python3-pip,python3-venv,ca-certificates"
    _run("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", tmp_path / "rootfs")
    if CERTIFICATES.is_file():  # a proxy of this network may have its own
        shutil.copy(CERTIFICATES, tmp_path / "rootfs" / CERTIFICATES.relative_to("/"))
    return tmp_path / "rootfs"


@pytest.mark.soak
def test_the_wheel_stage_is_built_in_a_chroot(rootfs, tmp_path):
    (tmp_path / "base.Dockerfile").write_text(BASE)
    tool = ["buildah", "--root", str(tmp_path / "store"), "--runroot", str(tmp_path / "run"), "--storage-driver", "vfs"]
    build = [*tool, "build", "--isolation", "chroot"]
    try:
        _run(*build, "-f", tmp_path / "base.Dockerfile", "-t", "base", rootfs)
        image = ROOT / "k8s" / "image" / "Dockerfile"
        base = ["--build-arg", "PYTHON_IMAGE=localhost/base"]
        _run(*build, *base, "-f", image, "--target", "wheel", "-t", "wheel", ROOT)
        container = _run(*tool, "from", "localhost/wheel").strip()
        assert _run(*tool, "run", "--isolation", "chroot", container, "--", "ls", "/wheel").endswith(".whl\n")
    finally:
        subprocess.run([*tool, "rm", "--all"], capture_output=True, check=False)
        shutil.rmtree(tmp_path, ignore_errors=True)
