# SPDX-License-Identifier: Apache-2.0
"""Methods that can be trained: which learner each role has, its presets, and how its policies are kept."""
