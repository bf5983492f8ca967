# SPDX-License-Identifier: Apache-2.0
"""Learners of the role cacher: a DDQN over caches, whose values are made in one of three ways.

``learning`` and ``module`` import Ray; all else needs torch alone.
"""
