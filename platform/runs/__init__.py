"""Training, evaluating, comparing and replaying: what a single command runs."""
