# SPDX-License-Identifier: Apache-2.0
"""The joint learner of the fleet: router, allocator and cacher begin at a tuned rule and learn what is left."""
