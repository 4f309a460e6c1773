"""Fixtures for all rooms."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real pages, problems and benchmarks, which are not part of the project: $MATHQUARRY_SHARED, else ../shared/data."""
    folder = Path(os.environ.get("MATHQUARRY_SHARED") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no shared test data at {folder}; set MATHQUARRY_SHARED to its folder")
    return folder
