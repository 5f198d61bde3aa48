"""One example or more of every message, by name: for round trips, the schema and stored frames.

An example is never changed once its frame is stored in ``frames_v1``; a new field gets a new one.
"""

from __future__ import annotations

from typing import Final

from fastworker.core.records import Failure, JobView, TaskStatus
from fastworker.wire import messages as m
from fastworker.wire.views import view_to_map

A: Final = bytes(range(16))
B: Final = bytes(range(16, 32))
NONCE: Final = bytes(range(32))
MAC: Final = bytes(range(100, 132))
NOW: Final = 1_763_812_800.25

VIEW: Final = JobView(
    id=A,
    task="mail.send",
    queue="default",
    priority=2,
    status=TaskStatus.FAILURE,
    submitted_at=NOW,
    ready_at=None,
    expires_at=NOW + 60,
    started_at=NOW + 1,
    finished_at=NOW + 2,
    attempts=3,
    token=17,
    session=B,
    result_kept=True,
    value=None,
    failure=Failure("builtins.ValueError", "no such address", "Traceback …", "raised"),
    reason=None,
)

EXAMPLES: Final[dict[str, m.Message]] = {
    "hello": m.Hello([1], "subworker", "default", NONCE, "fastworker/0.1.0"),
    "hello_least": m.Hello([1, 2], "client", "team", NONCE),
    "challenge": m.Challenge(1, NONCE, MAC),
    "proof": m.Proof(MAC),
    "welcome": m.Welcome(A, "fastworker/0.1.0", 5.0, 15.0, 1_048_576, NOW),
    "problem": m.Problem("conflict", "this id is taken", 7, 1.5, A),
    "problem_least": m.Problem("overloaded", "try later"),
    "beat": m.Beat(1),
    "beat_ack": m.BeatAck(2**63 - 1),
    "bye": m.Bye("drain"),
    "piece": m.Piece(3, 0, False, b"\x81\x82"),
    "introduce": m.Introduce(A, True, True),
    "introduce_least": m.Introduce(A),
    "submit": m.Submit(
        request=1,
        specs=[["mail.send", "default", 1, {}], ["resize", "images", 3, {"on_lost": "fail"}]],
        ids=A + B,
        payloads=[b"first", b""],
        which=[1, 0],
        ready_at=[None, NOW],
        expires_at=[NOW + 5, None],
        first_try=False,
        watch=True,
        group=A,
        group_total=2,
        parent=B,
        parent_token=9,
    ),
    "submit_least": m.Submit(1, [["mail.send", "default", 1, {}]], A, [b"sealed"]),
    "submitted": m.Submitted(1, [[0, "overloaded", "full", 2.5]], [[1, B]]),
    "submitted_least": m.Submitted(1),
    "watch": m.Watch(A + B),
    "unwatch": m.Unwatch(A),
    "finished": m.Finished(
        ids=A + B,
        statuses=bytes([4, 5]),
        values=[b"sealed", None],
        started_at=[NOW, None],
        finished_at=[NOW + 1, NOW + 2],
        attempts=[1, 3],
        failures=[[1, "builtins.ValueError", "no", "Traceback …", "raised"]],
    ),
    "gone": m.Gone(A, B),
    "fetch": m.Fetch(4, A + B),
    "fetched": m.Fetched(4, [view_to_map(VIEW)]),
    "cancel": m.Cancel(5, A, "no longer needed"),
    "cancel_least": m.Cancel(5, A),
    "cancelled": m.Cancelled(5, ["cancelled", "unknown"]),
    "query": m.Query(6, "jobs", {"limit": 10, "status": None}),
    "query_least": m.Query(6, "status"),
    "report": m.Report(6, {"queues": [{"name": "default", "ready": 3, "age": 0.5}]}),
    "roster": m.Roster(
        ["tcp://127.0.0.1:5555"],
        [{"label": "w1", "queues": ["default"], "tasks": ["mail.send"], "connected": True}],
        [{"name": "mail.send", "signature": "(to: str)", "signatures_agree": True}],
    ),
    "callback": m.Callback(A, b"body", MAC),
    "callback_ack": m.CallbackAck(A + B),
    "register": m.Register(
        incarnation=A,
        label="w1",
        queues=["default", "images"],
        tasks=[["mail.send", 0, "(to: str)"], ["resize", 1, "(path)"]],
        pools=[100, 4],
        prefetch=[100, 4],
        local=True,
        host="machine",
        pid=4242,
        claim_ids=A,
        claim_tokens=[17],
    ),
    "register_least": m.Register(A, "w1", [], [], [0, 0], [0, 0]),
    "registered": m.Registered(15.0, [17]),
    "assign": m.Assign(
        ids=A + B,
        tokens=[17, 18],
        specs=[["mail.send", 1, 0, {}], ["resize", 3, 1, {"keep_result": False}]],
        payloads=[b"one", b"two"],
        attempts=[1, 2],
        which=[0, 1],
        budget=[None, 2.5],
    ),
    "assign_least": m.Assign(A, [17], [["mail.send", 1, 0, {}]], [b"one"], [1]),
    "outcome": m.Outcome(
        ids=A + B,
        tokens=[17, 18],
        statuses=bytes([4, 5]),
        values=[b"sealed", None],
        started_at=[NOW, None],
        finished_at=[NOW + 1, NOW + 2],
        failures=[[1, "builtins.ValueError", "no", "Traceback …", "raised"]],
    ),
    "outcome_ack": m.OutcomeAck([17], [18]),
    "outcome_ack_least": m.OutcomeAck([17]),
    "started": m.Started(A, [17], [NOW]),
    "handback": m.Handback(A + B, [17, 18], bytes([1, 0]), "runner_died", "signal 11"),
    "handback_least": m.Handback(A, [17], bytes([0]), "drain"),
    "withdraw": m.Withdraw(A, [17]),
    "withdrawn": m.Withdrawn(A, [17], bytes([1])),
    "capacity": m.Capacity([0, 0], [0, 0]),
    "relay": m.Relay(2, b"\x80", True),
    "relay_least": m.Relay(2, b"\x80"),
    "runner_ready": m.RunnerReady(4242, [["mail.send", 0, "(to: str)"]]),
    "runner_failed": m.RunnerFailed("module 'jobs' cannot be imported: no such module"),
    "runner_stop": m.RunnerStop(),
    "runner_slots": m.RunnerSlots([[0, 1], [1, -1]]),
}
