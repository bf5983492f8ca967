# SPDX-License-Identifier: Apache-2.0
"""Rules, searches and oracles: what learned policies are compared with."""
