# SPDX-License-Identifier: Apache-2.0
"""Learners by role: settings, networks, losses, policies and updates that any method can put together."""
