"""A web application as people run it: uvicorn in a process of its own, on a free port."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.support.cluster import Cluster
from tests.support.process import WAIT_SECONDS, Member


class WebApp(NamedTuple):
    """The process, and a client whose paths are the app's."""

    process: Member
    http: httpx.Client


@contextmanager
def running_app(cluster: Cluster, *, app_folder: Path | None = None) -> Iterator[WebApp]:
    """``uvicorn app:app`` as a member of the cluster, with ``app.py`` in ``app_folder``.

    Raises:
        AssertionError: it did not start; the message shows its log.
    """
    process = Member(
        "web",
        (
            *(sys.executable, "-m", "uvicorn", "app:app", "--port", "0"),
            *("--app-dir", str(app_folder or cluster.folder)),
        ),
        environment=cluster.client_environment(),
        folder=cluster.folder,
    )
    cluster.members.append(process)
    url = re.search(r"http://\S+", process.wait_line("Uvicorn running on http://"))
    assert url is not None
    with httpx.Client(base_url=url[0], timeout=WAIT_SECONDS, trust_env=False) as http:
        yield WebApp(process, http)
