# SPDX-License-Identifier: Apache-2.0
"""How each kind of world is served: its live world, and the scenarios that a service stands for. Without Ray."""
