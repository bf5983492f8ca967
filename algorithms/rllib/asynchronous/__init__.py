# SPDX-License-Identifier: Apache-2.0
"""Asynchronous training: env runners play, replay shards keep, learners learn, and nobody waits for the slowest.

Fragments go from runners straight to shards, batches from shards straight to learners, weights back through Ray's
object store. The driver starts episodes and stretches of learning, counts, and holds no data. Two bounds keep the
pace: a shard grants a runner no further fragment while too much that was played waits to be learned from, and learners
go on only up to a bound beyond the oldest weights that anybody still plays with.
"""
