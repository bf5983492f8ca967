# SPDX-License-Identifier: Apache-2.0
"""What a gateway tells of itself: metrics, traces and lines of a log."""
