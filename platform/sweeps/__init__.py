# SPDX-License-Identifier: Apache-2.0
"""Sweeps: searches for good settings on Ray Tune, a final training over seeds, a report, a registered policy."""
