# SPDX-License-Identifier: Apache-2.0
"""The deciders: the policy interface, simple rules, trained policies and the RLlib algorithms that train them.

Importing this package or its policies does not import Ray; only the modules that train do.
"""
