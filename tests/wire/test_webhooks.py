"""Webhooks as bytes: the JSON, and a signature that nobody without the token can make."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker.core.records import Failure, TaskStatus
from fastworker.errors import ProtocolError
from fastworker.wire.callbacks import CallbackBody
from fastworker.wire.values import seal_value
from fastworker.wire.webhooks import decode_webhook, encode_webhook, signed_at, webhook_headers

KEY = b"shop.0123456789abcdef0123456789abcdef"
BODY = CallbackBody(
    delivery=bytes(range(16)),
    task_id=bytes(range(16)),
    status=TaskStatus.SUCCESS,
    value=seal_value({"when": datetime(2026, 1, 31, tzinfo=UTC), "raw": b"\xff"}, what="it"),
    failure=None,
    started_at=1.5,
    completed_at=2.0,
    attempts=1,
    data=seal_value((1, 2), what="it"),
)


def test_the_body_is_json_under_the_names_of_a_callback() -> None:
    assert json.loads(encode_webhook(BODY)) == {
        "delivery_id": "000102030405060708090a0b0c0d0e0f",
        "task_id": "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "status": "success",
        "result": {"when": "2026-01-31T00:00:00+00:00", "raw": "/w=="},
        "error": None,
        "traceback": None,
        "reason": None,
        "started_at": "1970-01-01T00:00:01.500000+00:00",
        "completed_at": "1970-01-01T00:00:02+00:00",
        "attempts": 1,
        "callback_data": [1, 2],
    }
    found = decode_webhook(encode_webhook(BODY))
    assert found["status"] is TaskStatus.SUCCESS
    assert found["completed_at"] == datetime.fromtimestamp(2.0, UTC)


def test_a_failure_travels_as_text() -> None:
    failed = BODY._replace(
        status=TaskStatus.FAILURE,
        value=None,
        failure=Failure("ValueError", "no stock", "Traceback …", ""),
    )
    found = decode_webhook(encode_webhook(failed))
    assert (found["error"], found["traceback"]) == ("ValueError: no stock", "Traceback …")
    assert (found["result"], found["reason"]) == (None, None)


def test_the_signature_is_that_of_standard_webhooks() -> None:
    headers = webhook_headers(KEY, BODY.delivery, b"{}", now=1_700_000_000.9)
    text = b"000102030405060708090a0b0c0d0e0f.1700000000.{}"
    expected = base64.b64encode(hmac.new(KEY, text, hashlib.sha256).digest()).decode()
    assert headers == {
        "webhook-id": "000102030405060708090a0b0c0d0e0f",
        "webhook-timestamp": "1700000000",
        "webhook-signature": f"v1,{expected}",
    }
    assert signed_at(KEY, headers, b"{}") == (headers["webhook-id"], 1_700_000_000.0)
    several = {**headers, "webhook-signature": f"v1,AAAA v2,x {headers['webhook-signature']}"}
    assert signed_at(KEY, several, b"{}")[1] == 1_700_000_000.0


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        *(({name: None}, "missing") for name in ("webhook-id", "webhook-timestamp")),
        ({"webhook-signature": None}, "missing"),
        ({"webhook-signature": ""}, "fit"),
        ({"webhook-signature": "v1,"}, "fit"),
        ({"webhook-signature": "v1,\udcff"}, "fit"),
        ({"webhook-signature": "v1," + "A" * 44}, "fit"),
        ({"webhook-signature": "v1a,x " * 5000}, "fit"),
        ({"webhook-timestamp": "1700000001"}, "fit"),
        ({"webhook-timestamp": "٣"}, "malformed"),
        ({"webhook-timestamp": "-1"}, "malformed"),
        ({"webhook-timestamp": "nan"}, "malformed"),
        ({"webhook-id": "f" * 32}, "fit"),
        ({"webhook-id": "x.1"}, "malformed"),
    ],
)
def test_other_headers_are_refused(changed: dict[str, str | None], why: str) -> None:
    headers = {**webhook_headers(KEY, BODY.delivery, b"{}", now=1_700_000_000), **changed}
    sent = {name: value for name, value in headers.items() if value is not None}
    with pytest.raises(ProtocolError, match=why):
        signed_at(KEY, sent, b"{}")


def test_another_key_or_body_is_refused() -> None:
    headers = webhook_headers(KEY, BODY.delivery, b"{}", now=1.0)
    for key, body in ((KEY + b"x", b"{}"), (b"", b"{}"), (KEY, b"{ }")):
        with pytest.raises(ProtocolError, match="fit"):
            signed_at(key, headers, body)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"delivery_id": 1}'),
        json.dumps({**json.loads(encode_webhook(BODY)), "status": "odd"}).encode(),
        json.dumps({**json.loads(encode_webhook(BODY)), "started_at": "odd"}).encode(),
        json.dumps({**json.loads(encode_webhook(BODY)), "attempts": True}).encode(),
    ],
)
def test_another_body_is_no_webhook(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_webhook(body)


@given(st.binary(max_size=200), st.dictionaries(st.text(max_size=20), st.text(max_size=80)))
def test_any_bytes_and_headers_are_refused(body: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(ProtocolError):
        signed_at(KEY, headers, body)
