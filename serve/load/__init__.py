# SPDX-License-Identifier: Apache-2.0
"""Load on a live service: sequences of requests, sent when they are due, and what the answers were worth."""
