"""Traces of real requests: from what others recorded to the one form that the fleet replays."""
