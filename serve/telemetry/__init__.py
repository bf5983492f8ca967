"""What a gateway tells of itself: metrics, traces and lines of a log."""
