"""What a webhook's receiver may answer and ask for."""

from __future__ import annotations

import pytest

from fastworker.server.callback_trouble import Trouble, Undelivered
from fastworker.server.webhooks import judge, read_retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0.0), (" 7 ", 7.0), ("7200", 3600.0), ("-1", None), ("nan", None), ("", None)),
        *(("9" * 400, None), ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0), ("x" * 9000, None)),
        *(("Thu, 01 Jan 1960 00:00:00 GMT", 0.0), ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0)),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    assert read_retry_after(text, 100.0) == seconds


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((200, None), (204, None), (299, None)),
        (410, Undelivered(Trouble.GONE, for_good=True)),
        *((status, Undelivered(Trouble.REDIRECT, 7.0)) for status in (300, 301, 304, 308)),
        *((status, Undelivered(Trouble.STATUS_4XX, 7.0)) for status in (400, 401, 404, 409, 429)),
        *((status, Undelivered(Trouble.STATUS_5XX, 7.0)) for status in (500, 503, 599)),
        *((status, Undelivered(Trouble.NOT_UNDERSTOOD)) for status in (0, 101, 600, 999)),
    ],
)
def test_a_status_is_told_by_its_class(status: int, expected: Undelivered | None) -> None:
    assert judge(status, 7.0) == expected
