"""Kubernetes manifests that are made from a service config."""
