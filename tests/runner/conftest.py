"""Attempts are run here in the test's own context, which outlives them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastworker.runner.context import current_job


@pytest.fixture(autouse=True)
def no_job_left_behind() -> Iterator[None]:
    """Later tests of this process are not code of a job."""
    yield
    current_job.set(None)
