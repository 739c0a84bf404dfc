"""R7: a host that may be fetched from cannot send us on: one connection, one request, wherever `Location` leads."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pytest
import trustme
from pydantic import SecretStr

from schemas.events import Reason, UploadReference
from stream.config import IntakeSettings
from stream.errors import ItemError, StoreUnavailable
from stream.intake.fetch import Fetcher
from stream.intake.https import HttpsStore
from tests.unit.intake_server import BYTES_MAX, HOST, Server

# {port} is the server's own: who follows it there gets a picture.
INWARD = (
    "http://127.0.0.1:{port}/inside",
    "https://127.0.0.1:{port}/inside",
    "https://169.254.169.254/latest/meta-data/",
    "https://[::1]:{port}/inside",
    "https://[::ffff:169.254.169.254]/",
    "//127.0.0.1:{port}/inside",
    "/inside",
    "file:///etc/hostname",
    "s3://photos/inside",
)


class Connections(list[object]):
    """Where this process connects to; it gets no further than to one server."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        connect = socket.socket.connect

        def counted(own: socket.socket, address: object) -> None:
            self.append(address)
            if address != server.server_address:
                raise ConnectionRefusedError(f"the test lets nobody connect to {address}")
            connect(own, server.server_address)

        monkeypatch.setattr(socket.socket, "connect", counted)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def https_server(authority: trustme.CA) -> Iterator[Server]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, "127.0.0.1").configure_cert(tls)
    running = Server(tls)
    yield running
    running.close()


@pytest.fixture(scope="module")
def s3_server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", INWARD)
def test_a_redirect_of_an_https_host_is_refused(
    https_server: Server, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, status: int, location: str
) -> None:
    """The upload's fault, whatever the redirect's kind. Break, tried: fetch what `Location` names."""
    server = https_server
    server.location = location.format(port=server.server_port)
    server.paths.clear()
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    hosts = [f"{HOST}:{server.server_port}"]
    store = HttpsStore(hosts, BYTES_MAX, resolve=lambda *_: ["127.0.0.1"], check=lambda _: None, tls=tls)
    connections = Connections(server, monkeypatch)
    with pytest.raises(ItemError) as caught:
        Fetcher(IntakeSettings(), {"https": store}).fetch(UploadReference(uri=f"https://{hosts[0]}/{status}"))
    assert caught.value.reason is Reason.URI_REFUSED
    assert connections == [server.server_address]
    assert server.paths == [f"/{status}"]


@pytest.mark.parametrize("location", INWARD)
def test_a_redirect_of_an_s3_endpoint_is_not_followed(
    s3_server: Server, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    """S3 says 301 when the region is another: the setting's fault, so the upload waits. Break, tried: as above."""
    server = s3_server
    server.location = location.format(port=server.server_port)
    server.paths.clear()
    settings = IntakeSettings(
        s3_buckets=["photos"],
        s3_endpoint=f"http://127.0.0.1:{server.server_port}",
        s3_access_key_id=SecretStr("id"),
        s3_secret_access_key=SecretStr("secret"),
    )
    fetcher = Fetcher(settings)
    connections = Connections(server, monkeypatch)
    with pytest.raises(StoreUnavailable, match=r"intake\.s3_region"):
        fetcher.fetch(UploadReference(uri="s3://photos/301-PermanentRedirect"))
    assert connections == [server.server_address]
    assert len(server.paths) == 1
