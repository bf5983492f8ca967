# SPDX-License-Identifier: Apache-2.0
"""Training, evaluating, comparing and replaying: what a single command runs."""
