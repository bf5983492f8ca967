# SPDX-License-Identifier: Apache-2.0
"""What a gateway keeps of every request: a row in memory for people who look, and one on disk to learn from."""
