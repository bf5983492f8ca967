# SPDX-License-Identifier: Apache-2.0
"""The provisioning world: models are cached per frame, slots are divided (after arXiv 2411.01458)."""
