# SPDX-License-Identifier: Apache-2.0
"""Traces of real requests: from what others recorded to the one form that the fleet replays."""
