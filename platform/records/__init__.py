"""What runs leave in MLflow: records, registered models."""
