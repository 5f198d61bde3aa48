"""The commands about dead letters, queues and attempts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from fastworker import BlockingClient
from fastworker.cli.dead import check_choice, read_age
from fastworker.cli.main import main
from fastworker.errors import InvalidOption
from tests.support.cluster import Cluster

NOWHERE = "01890000-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5d", 129_600), ("0", 0)],
)
def test_ages(text: str, seconds: float) -> None:
    assert read_age("--older-than", text) == seconds


@pytest.mark.parametrize("text", ["", "2 h", "-1h", "1w", "h", "1e3", "١h", "9" * 10])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="--older-than expects a length of time"):
        read_age("--older-than", text)


@pytest.mark.parametrize(
    ("ids", "criteria", "limit", "flags", "says"),
    [
        ([], {}, None, "", "replay what"),
        ([], {}, None, "yes", "replay what"),
        ([], {}, 5, "yes", "replay what"),
        ([], {"task": "a"}, None, "", "add --yes"),
        (["x"], {}, None, "", "not a UUID"),
        ([NOWHERE], {"task": "a"}, None, "yes", "not both"),
        ([NOWHERE], {}, None, "all", "not both"),
    ],
)
def test_a_bulk_change_must_be_meant(
    ids: list[str], criteria: dict[str, Any], limit: int | None, flags: str, says: str
) -> None:
    with pytest.raises(InvalidOption, match=says):
        check_choice("replay", ids, criteria, limit, yes="yes" in flags, everything="all" in flags)


def test_what_is_meant_is_done() -> None:
    check_choice("replay", [NOWHERE], {}, None, yes=False, everything=False)
    check_choice("replay", [], {"task": "a"}, 5, yes=True, everything=False)
    check_choice("replay", [], {}, None, yes=False, everything=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["dead", "list", "--older-than", "soon"],
        ["dead", "show", "x"],
        ["dead", "replay"],
        ["dead", "replay", NOWHERE, NOWHERE, "--args", "[]"],
        ["dead", "discard", "--task", "add"],
        ["queues", "pause", "a b"],
        ["status", "--attempts"],
    ],
)
def test_mistakes_are_told_before_dialling(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err


class Shell:
    """Runs commands as a user of the cluster would, in this process."""

    def __init__(self, cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._place = {"control_plane_address": cluster.address, "token": cluster.token}

    def __call__(self, *arguments: str, code: int = 0) -> str:
        found = main(arguments)
        out, err = self._capsys.readouterr()
        assert found == code, err
        return out.strip()

    def wait(self, task_id: str) -> None:
        with BlockingClient(**self._place) as client:
            client.handle(task_id).wait(60)

    def wait_queue(self, queue: str) -> None:
        with BlockingClient(**self._place) as client:
            for job in client.jobs(queue=queue):
                client.handle(job["id"]).wait(60)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("dead")) as cluster:
        cluster.control_plane()
        cluster.subworker("sw1")
        yield cluster


@pytest.fixture
def shell(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    monkeypatch.setenv("FASTWORKER_CONTROL_PLANE_ADDRESS", cluster.address)
    monkeypatch.setenv("FASTWORKER_TOKEN", cluster.token)
    return Shell(cluster, capsys)


@pytest.mark.process
def test_a_dead_letter_from_list_to_discard(shell: Shell) -> None:
    shell("submit", "fail", '["first"]', "--wait", code=1)
    (letter,) = json.loads(shell("dead", "list", "--json"))
    assert (letter["task"], letter["error"], letter["message"]) == ("fail", "ValueError", "first")
    old = letter["task_id"]
    assert old in shell("dead", "list", "--task", "fail", "--older-than", "0s")
    assert shell("dead", "list", "--older-than", "2h") == ""

    shown = shell("dead", "show", old)
    assert re.search(r'^args +\["first"\]$', shown, re.MULTILINE)
    assert "ValueError: first" in shown
    (attempt,) = json.loads(shell("status", old, "--attempts", "--json"))["history"]
    assert (attempt["worker"], attempt["outcome"]) == ("sw1", "failure")
    assert "sw1" in shell("status", old, "--attempts").splitlines()[-1]

    wrong = shell("dead", "replay", old, "--args", '{"message": "again"}')
    assert shell("dead", "replay", old) == wrong
    shell.wait(wrong)
    assert json.loads(shell("dead", "list", "--json"))[0]["replay_of"] == old

    assert shell("dead", "discard", wrong) == "1 discarded"
    assert shell("dead", "list") == ""
    shell("dead", "show", wrong, code=4)
    shell("dead", "replay", NOWHERE, code=4)
    shell("dead", "discard", NOWHERE, code=4)
    shell("status", NOWHERE, "--attempts", code=4)


@pytest.mark.process
def test_bulk_changes_and_queues(shell: Shell) -> None:
    for message in "abc":
        shell("submit", "fail", f'["{message}"]', "--queue", "bulk", "--wait", code=1)
    assert shell("queues", "pause", "bulk") == "bulk is paused"
    replay = ("dead", "replay", "--error", "ValueError", "--limit", "2", "--yes")
    assert shell(*replay) == "2 replayed"
    states = {one["queue"]: one for one in json.loads(shell("queues", "list", "--json"))}
    assert (states["bulk"]["paused"], states["bulk"]["queued"]) == (True, 2)
    assert "paused" in shell("queues", "list")
    assert shell("queues", "resume", "bulk") == "bulk goes on"
    assert shell("queues", "pause", "bulk", "--tenant", "shop") == "bulk of shop is paused"
    assert shell("queues", "resume", "bulk", "--tenant", "shop") == "bulk of shop goes on"
    assert shell("submit", "add", "[2, 3]", "--queue", "bulk", "--wait") == "5"
    shell.wait_queue("bulk")
    left = len(json.loads(shell("dead", "list", "--json")))
    assert json.loads(shell("dead", "discard", "--all", "--json")) == {"discarded": left}
