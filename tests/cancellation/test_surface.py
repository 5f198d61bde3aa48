"""Every public coroutine is cancelled by a test of this folder: a new one cannot be forgotten."""

from __future__ import annotations

from tests.cancellation import cases_store, test_link, test_serving
from tests.cancellation.surface import public_coroutines
from tests.cancellation.test_client import CASES

SWEPT = {
    *(name for case in CASES for name in case.covers),
    *cases_store.COVERS,
    *(f"transport.Link.{name}" for name in test_link.CALLS),
    *test_serving.COVERS,
}


def test_every_public_coroutine_is_swept() -> None:
    assert public_coroutines() - SWEPT == set(), "add a case to a table of tests/cancellation"


def test_no_case_is_about_what_is_gone() -> None:
    assert SWEPT - public_coroutines() == set()


def test_what_is_no_async_def_is_found_too() -> None:
    plain = {"Client.submit_stream", "client.Stopping.__await__", "AsyncTask.__call__"}
    assert plain <= public_coroutines()
