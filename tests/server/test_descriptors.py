"""How many connections the limit of open files allows."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastworker.server.limits import RESERVED_DESCRIPTORS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")

ASK = """
import resource, sys
from fastworker.server.descriptors import connections_possible, raise_descriptor_limit
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
raise_descriptor_limit(wanted)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], connections_possible(wanted))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "then"),
    [
        (256, 4096, 1000, (1000 + RESERVED_DESCRIPTORS, 1000)),
        (256, 1024, 15_000, (1024, 1024 - RESERVED_DESCRIPTORS)),
        (2048, 4096, 1000, (2048, 1000)),
        (100, 100, 15_000, (100, 50)),
    ],
)
def test_the_limit_is_raised_as_far_as_it_may_and_connections_fit_in_it(
    soft: int, hard: int, wanted: int, then: tuple[int, int]
) -> None:
    said = subprocess.run(
        [sys.executable, "-c", ASK, str(soft), str(hard), str(wanted)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert tuple(map(int, said.stdout.split())) == then
