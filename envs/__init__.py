# SPDX-License-Identifier: Apache-2.0
"""The simulated world: scenarios, arrivals, the batched simulator and its PettingZoo facade. No learning, no Ray."""
