"""Learners by role: settings, networks, losses, policies and updates that any method can put together."""
