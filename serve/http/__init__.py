# SPDX-License-Identifier: Apache-2.0
"""The live service's HTTP interface, and its client."""
