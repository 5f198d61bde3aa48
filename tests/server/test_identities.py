"""Who holds a token: shared, issued, expired, revoked, made anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastworker.errors import Forbidden
from fastworker.server.identities import INSECURE_KEY, Identities, IssuedToken
from fastworker.server.identity import Identity, Role

SHARED = {"ops": "ops." + "o" * 40}
WEB = IssuedToken("web." + "w" * 40, Identity("web", "shop", frozenset({Role.SUBMIT}), 1000.0))
GPU = IssuedToken(None, Identity("gpu", "*", frozenset({Role.WORKER})), certificate="gpu.example")


class Wall:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def identities(wall: Wall) -> Identities:
    return Identities(SHARED, [WEB, GPU], wall=wall)


def test_the_shared_token_is_the_operators(identities: Identities) -> None:
    assert identities.key("ops") == SHARED["ops"].encode()
    operator = identities.identity("ops")
    assert operator.sees is None and operator.may_administer and operator.submits_as == "default"
    assert identities.stands(operator)
    assert identities.key("nobody") is None


def test_an_issued_token_is_its_holders_until_it_expires(
    identities: Identities, wall: Wall
) -> None:
    holder = identities.identity("web")
    assert identities.key("web") == (WEB.text or "").encode()
    assert (holder.sees, holder.submits_as) == ("shop", "shop")
    assert holder.may_read and not holder.may_work and not holder.may_administer
    assert identities.next_expiry(0.0) == 1000.0 and identities.next_expiry(1000.0) is None
    wall.now = 1000.0
    assert identities.key("web") is None and not identities.stands(holder)
    assert identities.signing_key("web") == (WEB.text or "").encode()


def test_a_certificate_is_an_identity_without_a_key(identities: Identities) -> None:
    holder = identities.certificate("gpu.example")
    assert holder is not None and holder.token_id == "gpu" and identities.stands(holder)
    assert identities.key("gpu") is None and identities.signing_key("gpu") is None
    assert identities.certificate("gpu") is None
    identities.replace([WEB])
    assert identities.certificate("gpu.example") is None and not identities.stands(holder)


def test_what_was_revoked_or_changed_no_longer_stands(identities: Identities) -> None:
    holder = identities.identity("web")
    identities.replace([replace(WEB), GPU])  # read again, unchanged
    assert identities.stands(holder)
    for issued in ([], [replace(WEB, text="web." + "x" * 40)], [replace(WEB, created_at=5.0)]):
        again = Identities(SHARED, [WEB])
        holder = again.identity("web")
        again.replace(issued)
        assert not again.stands(holder)


def test_a_token_with_the_id_of_a_shared_one_opens_nothing() -> None:
    twin = IssuedToken("ops." + "t" * 40, Identity("ops", "shop", frozenset({Role.SUBMIT})))
    identities = Identities(SHARED, [twin])
    assert identities.key("ops") == SHARED["ops"].encode()
    assert identities.identity("ops").may_administer


def test_without_any_shared_token_everybody_has_the_well_known_one() -> None:
    identities = Identities({}, [WEB])
    assert identities.key("anybody") == INSECURE_KEY
    assert identities.stands(identities.identity("anybody"))
    holder = identities.identity("web")
    identities.replace([])
    assert not identities.stands(holder)


@pytest.mark.parametrize(
    ("role", "connects_as"),
    [
        (Role.SUBMIT, {"client"}),
        (Role.READ, {"client"}),
        (Role.WORKER, {"subworker"}),
        (Role.ADMIN, {"client", "subworker"}),
    ],
)
def test_d38_a_role_connects_as_what_it_is_for(role: Role, connects_as: set[str]) -> None:
    identity = Identity("web", "shop", frozenset({role}))
    for kind in ("client", "subworker"):
        if kind in connects_as:
            identity.check_connects_as(kind)
        else:
            with pytest.raises(Forbidden, match=f"'web' has the role {role}; a {kind} needs"):
                identity.check_connects_as(kind)
