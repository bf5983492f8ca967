# SPDX-License-Identifier: Apache-2.0
"""What runs leave in MLflow: records, registered models."""
