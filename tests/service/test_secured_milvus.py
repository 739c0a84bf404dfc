"""A wrong way to Milvus, or a privilege that is missing, is named: never an empty answer, never a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from prometheus_client.exposition import generate_latest

from models.model import load_model
from stream.errors import DejaviewError, NotPermitted, SettingError
from stream.neighbours.milvus.index import MilvusIndex
from stream.neighbours.protocol import STRONG, Link
from stream.service import Service, Stage
from tests.support.deployment import until
from tests.support.least_rights import BOUND_S, MILVUS_USER, WRONG, Secured, assert_no_secret, failure_of, fingerprints
from tests.support.made import random_vector
from tests.support.secured import MILVUS_RIGHTS, Certificates

pytestmark = pytest.mark.timeout(300)

MILVUS_STOPS: dict[str, tuple[dict[str, str | None], type[DejaviewError], str]] = {
    "wrong password": ({"token_file": "wrong"}, NotPermitted, "index.token_file"),
    "unknown user": ({"token_file": None, "token": f"nobody:{WRONG}"}, NotPermitted, "index.token"),
    "no token": ({"token_file": None}, NotPermitted, "index.token"),
    "password in the address": ({"token_file": None, "uri": f"https://stages:{WRONG}@"}, NotPermitted, "index.token"),
    "no token file": ({"token_file": "absent"}, SettingError, "index.token_file"),
    "no certificate file": ({"server_pem": "absent"}, SettingError, "index.server_pem"),
}
MILVUS_WAITS: dict[str, dict[str, str | None]] = {
    "unknown certificate": {"server_pem": "wrong.pem"},
    "no authority": {"server_pem": None},
    "no certificate in the file": {"server_pem": "wrong"},
    "plaintext": {"server_pem": None, "uri": "http://"},
}


def index_values(secured: Secured, changed: Mapping[str, str | None]) -> dict[str, Any]:
    """Settings of `index`: files lie in the test's folder, an address is completed by the server's."""
    (secured.folder / "wrong").write_text(f"{MILVUS_USER}:{WRONG}")
    Certificates.issue(secured.folder / "other").ca.rename(secured.folder / "wrong.pem")
    values: dict[str, Any] = dict(changed)
    for name in ("token_file", "server_pem"):
        values |= {name: secured.folder / value} if (value := changed.get(name)) else {}
    if "uri" in changed:
        values["uri"] = f"{changed['uri']}localhost:{secured.milvus.port}"
    return values


@pytest.mark.parametrize("fault", MILVUS_STOPS)
def test_a_wrong_way_to_milvus_is_named(secured: Secured, fault: str, heard: Callable[[], str]) -> None:
    """A wrong token, or a missing file, stops DECIDE and names the setting, not the secret; nothing is judged.

    Breaks, each tried: UNAUTHENTICATED as IndexUnavailable; the address in `_doing` as it is set.
    """
    changed, kind, named = MILVUS_STOPS[fault]
    secured.deployment.send_raw(fingerprints(secured))
    begun = time.monotonic()
    failure = failure_of(secured.settings(index=index_values(secured, changed)), Stage.DECIDE)
    assert time.monotonic() - begun < BOUND_S
    assert type(failure) is kind, failure
    assert named in str(failure)
    assert secured.deployment.judged() == 0
    assert_no_secret(failure, heard())


@pytest.mark.parametrize("fault", MILVUS_WAITS)
def test_an_index_behind_another_certificate_is_waited_for(
    secured: Secured, fault: str, heard: Callable[[], str]
) -> None:
    """A certificate may be replaced: DECIDE waits, names the setting and judges nothing. Break: no `_TLS` hint."""
    secured.deployment.send_raw(fingerprints(secured))
    service = Service(secured.settings(index=index_values(secured, MILVUS_WAITS[fault])), [Stage.DECIDE])
    service.start()
    try:
        until(lambda: "index.server_pem" in service.health.missing().get("decide start", ""), BOUND_S)
        assert_no_secret(service.health.missing(), generate_latest(service.metrics.registry).decode())
        assert secured.deployment.judged() == 0
        assert service.failure is None
    finally:
        assert service.close()
    assert_no_secret(heard())


@pytest.mark.parametrize("missing", MILVUS_RIGHTS, ids=lambda right: right[1])
def test_a_privilege_that_is_missing_is_not_an_empty_answer(secured: Secured, missing: tuple[str, str]) -> None:
    """Without one privilege of Milvus's the call that needs it raises NotPermitted, and the others work.

    Break: PERMISSION_DENIED as an empty result, or as IndexUnavailable.
    """
    settings = secured.settings().index
    index = MilvusIndex(settings, load_model().model_id)
    needed = {"Insert": "insert", "Query": "query", "Search": "search", "Delete": "delete"}.get(missing[1], "prepare")
    if needed != "prepare":
        index.prepare()
    # A role's privileges reach the proxy a moment after they are granted or revoked.
    secured.milvus.forbid(MILVUS_USER, index.collection, missing)
    link = Link("ledger-1", 0, 1, 0, 0, 1 << 18)
    calls: dict[str, Callable[[], object]] = {
        "prepare": index.prepare,
        "insert": lambda: index.append_links([link]),
        "query": lambda: index.links("ledger-1", {0: 0}, STRONG),
        "search": lambda: index.search("t", random_vector(1)[None], STRONG),
        "delete": lambda: index.delete_links([link]),
    }
    try:
        with pytest.raises(NotPermitted, match=r"index\.token"):
            until(lambda: calls[needed]() is NotPermitted, 5)
    finally:
        secured.milvus.allow(MILVUS_USER, index.collection, [missing])
    until(lambda: succeeds(index.prepare), 10)
    for call in calls.values():
        call()
    index.close()


def succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except NotPermitted:
        return False
    return True
