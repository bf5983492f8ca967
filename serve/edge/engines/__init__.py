# SPDX-License-Identifier: Apache-2.0
"""What makes the pictures of an edge: a pipeline on its device, a service elsewhere, or an emulation."""
