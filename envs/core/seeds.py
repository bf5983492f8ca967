# SPDX-License-Identifier: Apache-2.0
"""Bounds of seeds, apart from the models of files, which take long to make."""

from __future__ import annotations

MAX_SEED = 2**32 - 1
"""The largest that every generator of random numbers takes."""
