# SPDX-License-Identifier: Apache-2.0
"""The console: a page for people at every gateway, and the state of the fleet that it shows."""
