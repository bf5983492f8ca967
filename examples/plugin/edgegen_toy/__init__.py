# SPDX-License-Identifier: Apache-2.0
"""A world, rules, a method and how it is served, as a package of its own: what edgegen's commands take from outside."""
