# SPDX-License-Identifier: Apache-2.0
"""Learners of the role router: discrete soft actor-critic with a latent-action diffusion, and small differences of it.

:mod:`~edgegen.algorithms.roles.router.routers` holds the one table of them. ``learning``, ``module`` and ``set_replay``
import Ray; all else needs torch alone.
"""
