# SPDX-License-Identifier: Apache-2.0
"""The folder of an overlay: what is made is written, what is made no more goes, and what people wrote stays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.paths import reason_of
from edgegen.platform.files import write_text
from edgegen.platform.kubernetes.overlay import HEADER


def write_overlay(out: Path, made: Mapping[str, str]) -> list[str]:
    """Write the files of an overlay; returns those that have changed, by their path in its folder.

    Args:
        out: Its folder.
        made: Texts by path.

    Raises:
        InputError: If a file of another origin is in the way, or one can not be written.
    """
    before = {path: _read(path) for name in made if (path := out / name).exists()}
    for path, text in before.items():
        if not text.startswith(HEADER):
            raise InputError(f"'{path}' was not made by this command; move it away, or give another folder.")
    stale = [path for path in sorted(out.rglob("*.yaml")) if str(path.relative_to(out)) not in made]
    for path in stale:
        if _read(path).startswith(HEADER):
            path.unlink()
    changed = [name for name, text in made.items() if before.get(out / name) != text]
    for name in changed:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(out / name, made[name])
    return changed


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is no text"
        raise InputError(f"'{path}' can not be read: {reason}.") from None
