# SPDX-License-Identifier: Apache-2.0
"""Measured curves of real models."""
