"""Measured curves of real models."""
