"""fastworker inside a test: control plane, subworker and runner in the test's own process.

Nothing here is an imitation but the network and the runner's process: the same control plane
decides, the same wire format is spoken, the same subworker keeps leases and the same runner runs
the tasks. The fixtures are in `fastworker.integrations.pytest_plugin`; this package is for tests
that want to start things themselves::

    async with open_cluster() as cluster, cluster.client() as client:
        handle = await client.submit("add", 2, 3)
        assert await handle.result(timeout=60) == 5

Not imported by anything else in fastworker but that plugin.
"""

from __future__ import annotations

from fastworker.testing.cluster import Cluster, open_cluster
from fastworker.testing.options import ClusterOptions
from fastworker.testing.runtime import Runtime, open_runtime

__all__ = ["Cluster", "ClusterOptions", "Runtime", "open_cluster", "open_runtime"]
