# SPDX-License-Identifier: Apache-2.0
"""The live service: a scheduler in front of real diffusion pipelines, on Ray Serve."""
