"""The mutual challenge: who gets in, who does not, and what the sentences say."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from fastworker.errors import (
    AuthenticationFailed,
    InvalidOption,
    ProtocolError,
    UnsupportedVersion,
)
from fastworker.local_token import new_token
from fastworker.wire.handshake import (
    DialerHandshake,
    ListenerHandshake,
    check_token,
    token_id_of,
)
from fastworker.wire.messages import Challenge, Hello, Proof

SECRET = "0123456789abcdef0123456789abcdef"
TOKEN = f"team.{SECRET}"
TOKENS = {"team": TOKEN.encode(), "default": SECRET.encode()}


def dice(seed: int = 1) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def dialer(token: str = TOKEN, versions: Sequence[int] = (1,)) -> DialerHandshake:
    return DialerHandshake("client", token, dice(1), "test/1", versions=versions)


def listener(versions: Sequence[int] = (1,)) -> ListenerHandshake:
    return ListenerHandshake(TOKENS.get, dice(2), versions=versions)


@pytest.mark.parametrize(("token", "name"), [(TOKEN, "team"), (SECRET, "default")])
def test_both_prove_themselves(token: str, name: str) -> None:
    ours, theirs = dialer(token), listener()
    proof = ours.receive(theirs.receive_hello(ours.hello()))
    theirs.receive_proof(proof)
    assert theirs.authenticated
    assert (theirs.role, theirs.token_id, theirs.agent) == ("client", name, "test/1")
    assert ours.version == theirs.version == 1


def test_dialer_refuses_a_listener_without_the_token() -> None:
    ours = dialer()
    squatter = ListenerHandshake(lambda _: b"x" * 40, dice())
    with pytest.raises(AuthenticationFailed, match="nothing secret was sent") as caught:
        ours.receive(squatter.receive_hello(ours.hello()))
    assert SECRET not in str(caught.value)


def test_who_is_refused_with_the_token_of_the_machine_hears_what_to_set() -> None:
    text = new_token(lambda size: bytes(size), name="local-5555")
    ours = dialer(text)
    with pytest.raises(
        AuthenticationFailed, match=r"'local-5555'.* set FASTWORKER_TOKEN"
    ) as caught:
        ours.receive(listener().receive_hello(ours.hello()))
    assert text not in str(caught.value)


def test_unknown_token_id_is_challenged_like_a_known_one_and_then_fails() -> None:
    ours, theirs = dialer(f"nobody.{SECRET}"), listener()
    challenge = theirs.receive_hello(ours.hello())
    assert len(challenge.mac) == 32
    with pytest.raises(AuthenticationFailed):
        ours.receive(challenge)
    with pytest.raises(AuthenticationFailed, match="does not fit the token 'nobody'"):
        theirs.receive_proof(Proof(bytes(32)))
    assert not theirs.authenticated


@pytest.mark.parametrize("mac", [bytes(32), b"", bytes(31)])
def test_wrong_proof_fails(mac: bytes) -> None:
    ours, theirs = dialer(), listener()
    theirs.receive_hello(ours.hello())
    with pytest.raises(AuthenticationFailed):
        theirs.receive_proof(Proof(mac))


def test_listeners_own_mac_is_no_proof() -> None:
    ours, theirs = dialer(), listener()
    challenge = theirs.receive_hello(ours.hello())
    with pytest.raises(AuthenticationFailed):
        theirs.receive_proof(Proof(challenge.mac))


def test_proof_of_another_connection_fails() -> None:
    ours, first = dialer(), listener()
    proof = ours.receive(first.receive_hello(ours.hello()))
    second = ListenerHandshake(TOKENS.get, dice(3))
    second.receive_hello(ours.hello())
    with pytest.raises(AuthenticationFailed):
        second.receive_proof(proof)


def test_proof_for_one_role_does_not_fit_the_other() -> None:
    ours, theirs = dialer(), listener()
    hello = ours.hello()
    hello.role = "subworker"
    with pytest.raises(AuthenticationFailed):
        ours.receive(theirs.receive_hello(hello))


def test_failed_proof_cannot_be_repeated() -> None:
    ours, theirs = dialer(), listener()
    proof = ours.receive(theirs.receive_hello(ours.hello()))
    with pytest.raises(AuthenticationFailed):
        theirs.receive_proof(Proof(bytes(32)))
    with pytest.raises(ProtocolError):
        theirs.receive_proof(proof)
    assert not theirs.authenticated


def test_steps_out_of_order_are_refused() -> None:
    ours, theirs = dialer(), listener()
    with pytest.raises(ProtocolError):
        theirs.receive_proof(Proof(bytes(32)))
    challenge = theirs.receive_hello(ours.hello())
    with pytest.raises(ProtocolError):
        theirs.receive_hello(ours.hello())
    assert not theirs.authenticated
    ours.receive(challenge)
    with pytest.raises(ProtocolError):
        ours.receive(challenge)


def test_highest_common_version_is_chosen() -> None:
    ours, theirs = dialer(versions=(1, 2, 3)), listener(versions=(2, 3, 4))
    assert theirs.receive_hello(ours.hello()).version == 3


def test_no_common_version_names_both_ranges() -> None:
    with pytest.raises(UnsupportedVersion, match="versions 2 to 3, this control plane 1;"):
        listener().receive_hello(dialer(versions=(2, 3)).hello())
    with pytest.raises(UnsupportedVersion, match="versions none"):
        listener().receive_hello(dialer(versions=()).hello())
    with pytest.raises(UnsupportedVersion, match="chose protocol version 9; this side speaks 1;"):
        dialer().receive(Challenge(9, bytes(32), bytes(32)))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_nonce_has_32_bytes(size: int) -> None:
    with pytest.raises(ProtocolError, match="Hello, field nonce"):
        listener().receive_hello(Hello([1], "client", "team", bytes(size)))
    with pytest.raises(ProtocolError, match="Challenge, field nonce"):
        dialer().receive(Challenge(1, bytes(size), bytes(32)))


def test_role_is_one_of_two() -> None:
    with pytest.raises(ProtocolError, match="field role: expected one of client, subworker"):
        listener().receive_hello(Hello([1], "admin", "team", bytes(32)))
    with pytest.raises(InvalidOption, match="role"):
        DialerHandshake("admin", TOKEN, dice())


def test_token_id_stands_before_the_first_dot() -> None:
    assert token_id_of("a.b.c") == "a"
    assert token_id_of("abc") == "default"


def test_token_of_32_characters_is_enough() -> None:
    assert check_token(SECRET) == SECRET


@pytest.mark.parametrize(
    "token",
    ["", SECRET[:31], SECRET + "\n", SECRET + "é", "." + SECRET, "x" * 201 + ".y", "x" * 1025],
)
def test_unusable_token_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        check_token(token)
    assert not token or token not in str(caught.value)
