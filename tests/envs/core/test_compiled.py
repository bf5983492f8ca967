"""Compiled kernels: a changed kernel is compiled anew in whoever calls it, too."""

from pathlib import Path

import numba

from edgegen.envs.core.compiled import ROOMS, kernels_digest


def test_the_cache_is_that_of_the_kernels_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("@compiled\ndef f(x): return x\n")
    (tmp_path / "other.py").write_text("def g(x): return x\n")
    before = kernels_digest((tmp_path,))
    (tmp_path / "other.py").write_text("def g(x): return x + 1\n")
    assert kernels_digest((tmp_path,)) == before
    (tmp_path / "one.py").write_text("@compiled\ndef f(x): return x + 1\n")
    assert kernels_digest((tmp_path,)) != before
    assert numba.config.CACHE_DIR.endswith(kernels_digest(ROOMS))
    assert all(room.is_dir() for room in ROOMS)
