"""How much a control plane takes from its peers: every cap by its name, with its reason.

Caps of one WebSocket's frames are in `frame_guard`, those of what waits for the loop in `inbox`,
those of an outbox in `transport.link`, those of failed proofs in `refusals`; the listener's times
are in `admission` and `http_head`.
"""

from __future__ import annotations

from typing import Final

MAX_CONNECTIONS: Final = 15_000
"""Authenticated connections in all: each costs some tens of KiB here."""

MAX_CONNECTIONS_PER_ADDRESS: Final = 5_000
"""The same from one address, so that one machine gone wrong leaves room for all others. Loopback
is exempt: proxies and whole applications sit there."""

MAX_WAITING: Final = 2_048
"""Connections that have not proved themselves yet: each may take five seconds."""

MAX_WAITING_PER_ADDRESS: Final = 512
"""The same from one address: a crowd that comes back after a restart, in half a second's turns."""

MAX_UNPROVED_BYTES: Final = 16 * 1024
"""What a peer may send behind its HTTP head before it has proved itself: a handshake has 1 KiB."""

BEATS_A_SECOND: Final = 250.0
"""About as many heartbeats of clients: a crowd of them is told to beat less often. Each costs a
tenth of a millisecond, and with ten thousand every few seconds that would be all there is."""

LONGEST_HEARTBEAT_SECONDS: Final = 30.0
"""However large the crowd: who is silent for three of them is gone."""

MAX_OPEN_REQUESTS: Final = 50_000
"""Of one connection, without an answer: far more than a client has that waits for any of them."""

RESERVED_DESCRIPTORS: Final = 512
"""Files that are no connections: store, listeners, newcomers, the local subworker's runners."""

EXHAUSTED_SECONDS: Final = 1.0
"""While descriptors have run out, accepting is tried again this often at least."""

EXHAUSTED_LOG_SECONDS: Final = 60.0
"""And said this often at most."""

PEER_LINE_SECONDS: Final = 1.0
"""Of one address, at most one line about a connection that ended badly in this time."""

PEER_LINES_AT_ONCE: Final = 100
PEER_LINES_A_SECOND: Final = 5.0
"""Of all addresses together: an attack from many of them cannot flood the log, either."""

PEERS_REMEMBERED: Final = 1_000
"""Addresses whose last line is remembered."""
