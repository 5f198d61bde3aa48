"""Where callbacks may go: every rule against being sent elsewhere has its test here."""

from __future__ import annotations

import ipaddress
import threading

import pytest
import trio
import trio.testing

from fastworker.errors import Forbidden, InvalidAddress, InvalidOption
from fastworker.server import callback_rules
from fastworker.server.callback_rules import (
    LOOKUP_SECONDS,
    LOOKUPS_AT_ONCE,
    MAX_HOSTS_PER_SUBMISSION,
    CallbackRules,
    CallbackTarget,
    IPAddress,
    is_never_called,
    stored_target,
)
from fastworker.wire.callback_addresses import parse_callback_address


class Names:
    """A name server that is asked by the rules, and notes what for."""

    def __init__(self, **known: list[str]) -> None:
        self.known = {name.replace("_", "."): answers for name, answers in known.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[IPAddress]:
        self.asked.append(host)
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            if host not in self.known:
                raise OSError("unknown") from None
            return [ipaddress.ip_address(each) for each in self.known[host]]
        mapped = address.ipv4_mapped if address.version == 6 else None
        return [address if mapped is None else mapped]


async def found(
    address: str, submitter: str | None, *allowed: str, names: Names | None = None
) -> str:
    rules = CallbackRules(allowed, names if names is not None else Names())
    return str((await rules.resolve(address, submitter)).found)


@pytest.mark.trio
async def test_the_submitters_own_address_may_be_called() -> None:
    assert await found("tcp://10.1.2.3:70", "10.1.2.3") == "10.1.2.3"
    assert await found("http://10.1.2.3/x", "::ffff:10.1.2.3") == "10.1.2.3"
    assert await found("http://[2001:db8::7]/", "2001:db8::7") == "2001:db8::7"
    for other in ("10.1.2.4", "2001:db8::1", "127.0.0.1", None):
        with pytest.raises(Forbidden, match="--callback-allow"):
            await found("tcp://10.1.2.3:70", other)


@pytest.mark.trio
async def test_loopback_may_be_called_from_loopback_only() -> None:
    names = Names(localhost=["::1", "127.0.0.1"])
    assert await found("tcp://127.0.0.9:70", "127.0.0.1") == "127.0.0.9"
    assert await found("http://[::1]/", "127.0.0.1") == "::1"
    # Where an application listens is more likely what it connected from.
    assert await found("http://localhost/", "127.0.0.1", names=names) == "127.0.0.1"
    assert await found("http://localhost/", "::1", names=names) == "::1"
    for address in ("tcp://127.0.0.1:70", "http://[::1]/", "http://[::ffff:127.0.0.1]/"):
        with pytest.raises(Forbidden):
            await found(address, "10.1.2.3")
    with pytest.raises(Forbidden):
        await found("http://localhost/", "10.1.2.3", names=names)


@pytest.mark.trio
async def test_listed_hosts_may_be_called_at_listed_ports() -> None:
    names = Names(web_internal=["10.0.0.9"])
    allowed = ("web.internal", "10.0.0.7:7000", "[2001:db8::1]:80", "2001:db8::2")
    for address in (
        *("http://WEB.internal./x", "tcp://web.internal:1", "tcp://10.0.0.7:7000"),
        *("http://[2001:db8::1]/", "http://[2001:db8::2]:99/"),
    ):
        await found(address, "10.9.9.9", *allowed, names=names)
    for address in ("tcp://10.0.0.7:7001", "http://[2001:db8::1]:81/", "http://web.internal.evil/"):
        with pytest.raises(Forbidden):
            await found(address, "10.9.9.9", *allowed, names=names)


@pytest.mark.trio
async def test_a_name_whose_address_is_listed_may_be_called() -> None:
    names = Names(web=["10.0.0.8", "10.0.0.7"])
    assert await found("http://web/", None, "10.0.0.7", names=names) == "10.0.0.7"


@pytest.mark.trio
async def test_a_listed_name_that_turns_to_loopback_is_not_called() -> None:
    names = Names(hooks_example=["127.0.0.1", "::1"], localhost=["127.0.0.1"])
    with pytest.raises(Forbidden):
        await found("http://hooks.example/", "10.1.2.3", "hooks.example", names=names)
    assert await found("http://localhost/", "10.1.2.3", "localhost", names=names)
    assert await found("http://127.0.0.1/", "10.1.2.3", "127.0.0.1")


NEVER = [
    *("169.254.169.254", "169.254.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", "0.1.2.3"),
    *("240.0.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("::", "fe80::1", "fec0::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254"),
    *("::ffff:169.254.169.254", "::ffff:0.0.0.0", "::169.254.169.254", "::127.0.0.1"),
    *("64:ff9b::169.254.169.254", "64:ff9b::127.0.0.1", "64:ff9b:1::169.254.169.254"),
    *("2002:a9fe:a9fe::1", "2002:7f00:1::", "2001:0:a9fe:a9fe::"),
]


@pytest.mark.trio
@pytest.mark.parametrize("address", NEVER)
async def test_some_addresses_are_never_called_whatever_is_listed(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    names = Names(turned=[address])
    assert is_never_called(ipaddress.ip_address(address))
    for submitter in (address, None):
        with pytest.raises(Forbidden):
            await found(f"http://{host}/latest/meta-data", submitter, address, names=names)
        with pytest.raises(Forbidden):
            await found("http://turned/", submitter, "turned", address, names=names)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.0.0.7", "2001:db8::1", "64:ff9b::808:808"]
)
def test_others_may_be_called(address: str) -> None:
    assert not is_never_called(ipaddress.ip_address(address))


@pytest.mark.trio
async def test_a_name_is_looked_up_once_and_what_was_found_is_dialled() -> None:
    names = Names(mine=["10.1.2.3"])
    rules = CallbackRules((), names)
    target = await rules.resolve("https://mine/x?y", "10.1.2.3")
    names.known["mine"] = ["169.254.169.254"]
    kept = stored_target(target.stored)
    assert kept == target
    assert rules.permits(kept)
    assert str(kept.found) == "10.1.2.3"
    assert names.asked == ["mine"]


@pytest.mark.trio
async def test_a_submission_of_many_jobs_asks_for_each_name_once_and_for_few() -> None:
    names = Names(mine=["10.1.2.3"])
    rules = CallbackRules((), names)
    look_up = rules.one_look_each()
    for number in range(100):
        await rules.resolve(f"http://mine/{number}", "10.1.2.3", look_up)
    assert names.asked == ["mine"]
    for number in range(MAX_HOSTS_PER_SUBMISSION - 1):
        with pytest.raises(Forbidden):
            await rules.resolve(f"http://a{number}/", "10.1.2.3", look_up)
    with pytest.raises(InvalidOption, match="hosts"):
        await rules.resolve("http://another/", "10.1.2.3", look_up)
    assert len(names.asked) == MAX_HOSTS_PER_SUBMISSION


@pytest.mark.trio
async def test_name_servers_that_do_not_answer_delay_a_submission_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def never(host: str, port: int) -> list[IPAddress]:
        await trio.sleep_forever()
        raise AssertionError

    rules = CallbackRules((), never)
    look_up = rules.one_look_each()
    begun = trio.current_time()
    for number in range(20):
        with pytest.raises(Forbidden):
            await rules.resolve(f"http://a{number}/", "10.1.2.3", look_up)
    assert trio.current_time() - begun == pytest.approx(LOOKUP_SECONDS)


@pytest.mark.trio
async def test_names_that_nobody_answers_for_do_not_hold_up_listed_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released = threading.Event()

    def ask(host: str, port: int) -> list[str]:
        if host.endswith(".silent"):
            released.wait(30)
        return ["10.1.2.3"]

    monkeypatch.setattr(callback_rules, "_ask_system", ask)
    rules = CallbackRules(["hooks.example"])
    try:
        async with trio.open_nursery() as nursery:
            for number in range(LOOKUPS_AT_ONCE + 1):
                url = f"https://x{number}.silent/"
                nursery.start_soon(rules.resolve, url, "10.0.0.7")
            await trio.testing.wait_all_tasks_blocked(0.01)
            with trio.fail_after(3):
                target = await rules.resolve("https://hooks.example/", "10.0.0.8")
            assert str(target.found) == "10.1.2.3"
            nursery.cancel_scope.cancel()
    finally:
        released.set()


@pytest.mark.trio
async def test_the_rules_are_asked_again_with_another_list() -> None:
    names = Names(web=["10.0.0.7"])
    target = await CallbackRules(["web"], names).resolve("https://web/", "10.9.9.9")
    assert CallbackRules(["web"]).permits(stored_target(target.stored))
    assert not CallbackRules([]).permits(stored_target(target.stored))
    assert not CallbackRules(["web:80"]).permits(stored_target(target.stored))


def test_what_an_older_version_stored_is_its_address() -> None:
    old = stored_target("ws://127.0.0.1:7000")
    loopback = ipaddress.ip_address("127.0.0.1")
    address = parse_callback_address("tcp://127.0.0.1:7000")
    assert old == CallbackTarget(address, loopback, loopback)
    with pytest.raises(InvalidAddress):
        stored_target("wss://web:7000")


@pytest.mark.trio
async def test_which_names_are_known_is_told_of_listed_ones_only() -> None:
    names = Names(known_internal=["10.0.0.7"])
    answers = set()
    for host in ("known.internal", "unknown.internal"):
        with pytest.raises(Forbidden) as refused:
            await found(f"http://{host}/", "10.9.9.9", names=names)
        answers.add(str(refused.value).replace(host, "…"))
    assert len(answers) == 1
    with pytest.raises(InvalidAddress, match="looked up"):
        await found("http://unknown.internal/", "10.9.9.9", "unknown.internal", names=names)


@pytest.mark.parametrize(
    "entry", ["", "http://a", "a:b", "a/24", "10.0.0.0/8", "0x7f.1", "*", "a b"]
)
def test_a_list_with_something_else_in_it_is_refused_at_the_start(entry: str) -> None:
    with pytest.raises(InvalidOption, match="--callback-allow"):
        CallbackRules([entry])
