# SPDX-License-Identifier: Apache-2.0
"""Learners of the role allocator: DDPG with a diffusion actor (D3PG), and with a plain one.

``learning``, ``module`` and ``objectives`` import Ray; all else needs torch alone.
"""
