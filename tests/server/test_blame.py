"""Peers' faults are a line, now and then; bugs of ours come with a traceback."""

from __future__ import annotations

import ssl

import pytest
import trio
from trio_websocket import HandshakeError
from wsproto.utilities import LocalProtocolError

from fastworker.errors import Forbidden, InternalError, ProtocolError
from fastworker.server.blame import is_bug
from fastworker.server.http_head import BadHead
from fastworker.server.peer_log import PeerLog

FAULTS_OF_PEERS = [
    ProtocolError("x"),
    Forbidden("x"),
    BadHead(400, "x"),
    HandshakeError(),
    ssl.SSLError(),
    ConnectionResetError(),
    LocalProtocolError(),
    trio.TooSlowError(),
    trio.BrokenResourceError(),
]
BUGS = [KeyError("x"), InternalError("x"), AssertionError(), RecursionError()]


@pytest.mark.parametrize("error", FAULTS_OF_PEERS, ids=lambda error: type(error).__name__)
def test_what_a_peer_does_is_no_bug(error: Exception) -> None:
    assert not is_bug(error)
    assert not is_bug(ExceptionGroup("", [error, ExceptionGroup("", [error])]))


@pytest.mark.parametrize("error", BUGS, ids=lambda error: type(error).__name__)
def test_anything_else_is_one_also_inside_a_group(error: Exception) -> None:
    assert is_bug(error)
    assert is_bug(ExceptionGroup("", [ProtocolError("x"), ExceptionGroup("", [error])]))


def test_a_bug_is_logged_with_its_traceback_once_in_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = PeerLog()
    for _ in range(100):
        log.note_error("1.2.3.4:5", KeyError("x"))
        log.note_error("1.2.3.4:5", ExceptionGroup("", [trio.TooSlowError()]))
    assert log.count == 200
    bug, peer = caplog.records
    assert "1.2.3.4:5 broke inside fastworker" in bug.getMessage() and bug.exc_info is not None
    assert peer.getMessage() == "connection from 1.2.3.4:5 ended: TooSlowError: "
