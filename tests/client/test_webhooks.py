"""`verify_webhook`: what a web application may believe."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from fastworker import CallbackRefused, TaskStatus, verify_webhook
from fastworker.wire.webhooks import encode_webhook, webhook_headers
from tests.wire.test_webhooks import BODY, KEY

TOKEN = KEY.decode()


def sent(*, before: float = 0.0, body: bytes | None = None) -> tuple[bytes, dict[str, str]]:
    data = encode_webhook(BODY) if body is None else body
    return data, webhook_headers(KEY, BODY.delivery, data, now=time.time() - before)


def test_a_webhook_is_read_as_a_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    body, headers = sent()
    shouted = {name.title(): value for name, value in headers.items()}
    callback = verify_webhook(body, shouted, token=TOKEN)
    assert callback.status is TaskStatus.SUCCESS
    assert callback.callback_data == [1, 2]
    assert callback.delivery_id == BODY.delivery.hex()
    callback.acknowledge()  # the answer's status says so; this says nothing
    monkeypatch.setenv("FASTWORKER_TOKEN", TOKEN)
    assert verify_webhook(body, headers) == callback


@pytest.mark.parametrize("before", [302.0, -302.0, 1e9])
def test_a_webhook_that_was_not_sent_just_now_is_refused(before: float) -> None:
    body, headers = sent(before=before)
    with pytest.raises(CallbackRefused, match="clocks"):
        verify_webhook(body, headers, token=TOKEN)


def test_the_age_that_is_allowed_can_be_chosen() -> None:
    body, headers = sent(before=400)
    assert verify_webhook(body, headers, token=TOKEN, max_age=500)
    assert verify_webhook(body, headers, token=TOKEN, max_age=timedelta(hours=1))


def test_a_webhook_of_another_token_is_refused_without_showing_ours() -> None:
    body, headers = sent()
    with pytest.raises(CallbackRefused, match="signature") as refused:
        verify_webhook(body, headers, token="shop.another")
    assert "another" not in str(refused.value)


def test_a_webhook_whose_body_is_another_deliverys_is_refused() -> None:
    other = encode_webhook(BODY._replace(delivery=bytes(16)))
    for body, why in ((other, "another delivery"), (b"nothing", "JSON")):
        data, headers = sent(body=body)
        with pytest.raises(CallbackRefused, match=why):
            verify_webhook(data, headers, token=TOKEN)
