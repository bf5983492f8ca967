# SPDX-License-Identifier: Apache-2.0
"""Many processes and machines: what a training takes of a cluster, clusters to try it on, faults, and scaling."""
