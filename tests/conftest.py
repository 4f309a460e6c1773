"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples every time, and however slow the machine is.
settings.register_profile("tests", deadline=None, derandomize=True)
settings.load_profile("tests")

REPOSITORY = Path(__file__).parents[1]
LONGEST = ("test_plan_check.py", "test_store_model.py", "test_kill.py")
"""Files that take minutes. They come first, so that no process is left alone with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real pages, problems and benchmarks, which are not part of the project: $MATHQUARRY_SHARED, else ../shared/data."""
    folder = Path(os.environ.get("MATHQUARRY_SHARED") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no shared test data at {folder}; set MATHQUARRY_SHARED to its folder")
    return folder
