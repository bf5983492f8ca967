# SPDX-License-Identifier: Apache-2.0
"""One edge server of the live service."""
