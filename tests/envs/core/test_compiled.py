# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels: a changed one is compiled anew in whoever calls it, too; none counts references in its loops."""

from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from edgegen.envs.core.compiled import ROOMS, allocating, compiled, inlined, kernels_digest


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


def first_and_all(values):
    return values[0], values


def half(values):
    return values[0] / 2


def halves(values):
    return half_of(values) + half_of(values[1:])


half_of = inlined(half)


def test_only_what_allocates_counts_references(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))  # what is loaded from a cache shows no code
    plain: Any = compiled(halves)
    counting: Any = allocating(first_and_all)
    assert plain(np.array([1.0, 2.0])) == 1.5
    counting(np.ones(1))
    for made in (plain, counting):
        (text,) = made.inspect_llvm().values()
        assert ("NRT_incref" in text) == (made is counting)


@pytest.mark.parametrize("kind", [compiled, inlined])
def test_what_counts_no_references_can_neither_make_nor_return_arrays(kind):
    with pytest.raises(TypeError, match="first_and_all returns arrays; only what is allocating may"):
        kind(first_and_all)(np.zeros(2))
    with pytest.raises(numba.core.errors.TypingError):
        kind(lambda count: np.zeros(count)[0])(2)
    number, values = allocating(first_and_all)(np.ones(2))
    assert number == 1
    assert values.tolist() == [1, 1]
