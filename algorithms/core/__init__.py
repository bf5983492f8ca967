# SPDX-License-Identifier: Apache-2.0
"""What every decider shares: the policy interface, the one loop, policies by name, policy folders."""
