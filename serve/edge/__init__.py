"""One edge server of the live service."""
