# SPDX-License-Identifier: Apache-2.0
"""Kubernetes manifests that are made from a service config."""
