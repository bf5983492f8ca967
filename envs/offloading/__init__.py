# SPDX-License-Identifier: Apache-2.0
"""The offloading world: tasks are placed on servers slot by slot (after arXiv 2412.18212)."""
