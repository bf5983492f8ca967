"""The order of the suite."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files whose tests start processes: they take longest, and none must be left for the end.

    The workers of a parallel run take files in this order (``--dist loadfile --no-loadscope-reorder``).
    """
    long = {item.path for item in items if item.get_closest_marker("e2e")}
    items.sort(key=lambda item: item.path not in long)
