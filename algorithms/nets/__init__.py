# SPDX-License-Identifier: Apache-2.0
"""Networks of every role: stacked weights and diffusion chains."""
