# SPDX-License-Identifier: Apache-2.0
"""An earlier report of the benchmark, to compare with."""

from __future__ import annotations

import json
from pathlib import Path

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.paths import reason_of

FORMAT = "edgegen-bench-1"


def read_earlier(path: Path) -> dict[str, float]:
    """Read what was measured earlier, by processor time and name.

    Raises:
        InputError: If the file can not be read or is no report of ``edgegen bench``.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        found = {str(row["name"]): float(row["cpu"]) for row in data["measurements"]}
        known = data["format"] == FORMAT and all(value > 0 for value in found.values())
    except OSError as error:
        raise InputError(f"'{path}' can not be read: {reason_of(error)}.") from None
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise InputError(f"'{path}' is no report of edgegen bench, as --json writes it ({FORMAT}).")
    return found
