"""Every message of protocol version 1, as typed records. `schema.cddl` says the same in CDDL.

A frame is one CBOR array of messages; a message is ``[kind, {field: value, …}]`` with the field
names as text keys. A field whose value is None is left out. Unknown fields are ignored,
unknown kinds are answered with `Problem`. Many jobs travel as columns: position *i* of every
column speaks of the same job; ids are packed, 16 bytes each, in one byte string.

Moments are wall-clock seconds (float, UTC); lengths are seconds.
"""

from __future__ import annotations

from fastworker.wire.messages_base import Message as Message
from fastworker.wire.messages_clients import Callback as Callback
from fastworker.wire.messages_clients import CallbackAck as CallbackAck
from fastworker.wire.messages_clients import Cancel as Cancel
from fastworker.wire.messages_clients import Cancelled as Cancelled
from fastworker.wire.messages_clients import Fetch as Fetch
from fastworker.wire.messages_clients import Fetched as Fetched
from fastworker.wire.messages_clients import Finished as Finished
from fastworker.wire.messages_clients import Gone as Gone
from fastworker.wire.messages_clients import Introduce as Introduce
from fastworker.wire.messages_clients import Manage as Manage
from fastworker.wire.messages_clients import Query as Query
from fastworker.wire.messages_clients import Report as Report
from fastworker.wire.messages_clients import Roster as Roster
from fastworker.wire.messages_clients import Submit as Submit
from fastworker.wire.messages_clients import Submitted as Submitted
from fastworker.wire.messages_clients import Unwatch as Unwatch
from fastworker.wire.messages_clients import Watch as Watch
from fastworker.wire.messages_handshake import Beat as Beat
from fastworker.wire.messages_handshake import BeatAck as BeatAck
from fastworker.wire.messages_handshake import Bye as Bye
from fastworker.wire.messages_handshake import Challenge as Challenge
from fastworker.wire.messages_handshake import Hello as Hello
from fastworker.wire.messages_handshake import Piece as Piece
from fastworker.wire.messages_handshake import Problem as Problem
from fastworker.wire.messages_handshake import Proof as Proof
from fastworker.wire.messages_handshake import Welcome as Welcome
from fastworker.wire.messages_inspection import AskStacks as AskStacks
from fastworker.wire.messages_inspection import Inspect as Inspect
from fastworker.wire.messages_inspection import Inspected as Inspected
from fastworker.wire.messages_inspection import LoopBlocked as LoopBlocked
from fastworker.wire.messages_inspection import Stacks as Stacks
from fastworker.wire.messages_runners import LeaseLost as LeaseLost
from fastworker.wire.messages_runners import RunnerFailed as RunnerFailed
from fastworker.wire.messages_runners import RunnerReady as RunnerReady
from fastworker.wire.messages_runners import RunnerSlots as RunnerSlots
from fastworker.wire.messages_runners import RunnerStop as RunnerStop
from fastworker.wire.messages_running import Checkpoint as Checkpoint
from fastworker.wire.messages_running import Follow as Follow
from fastworker.wire.messages_running import Followed as Followed
from fastworker.wire.messages_running import Lines as Lines
from fastworker.wire.messages_running import Progress as Progress
from fastworker.wire.messages_running import Unfollow as Unfollow
from fastworker.wire.messages_streams import Pull as Pull
from fastworker.wire.messages_streams import Streamed as Streamed
from fastworker.wire.messages_streams import StreamItems as StreamItems
from fastworker.wire.messages_streams import StreamPull as StreamPull
from fastworker.wire.messages_subworkers import Assign as Assign
from fastworker.wire.messages_subworkers import Capacity as Capacity
from fastworker.wire.messages_subworkers import Handback as Handback
from fastworker.wire.messages_subworkers import Offered as Offered
from fastworker.wire.messages_subworkers import Outcome as Outcome
from fastworker.wire.messages_subworkers import OutcomeAck as OutcomeAck
from fastworker.wire.messages_subworkers import Register as Register
from fastworker.wire.messages_subworkers import Registered as Registered
from fastworker.wire.messages_subworkers import Relay as Relay
from fastworker.wire.messages_subworkers import Started as Started
from fastworker.wire.messages_subworkers import Unwinding as Unwinding
from fastworker.wire.messages_subworkers import Withdraw as Withdraw
from fastworker.wire.messages_subworkers import Withdrawn as Withdrawn

PROTOCOL_VERSIONS: tuple[int, ...] = (1,)
SUBPROTOCOL = "fastworker.v1"
