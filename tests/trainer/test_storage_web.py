"""https:// sources: one public file, and nothing that only the cluster can reach."""

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from finetune_contract import Dataset, Location
from finetune_operator.local.certificates import make_certificates
from finetune_operator.local.state import ClusterState
from finetune_trainer.errors import UserError
from finetune_trainer.storage import Role, open_location
from finetune_trainer.storage.addresses import Address
from finetune_trainer.storage.public_https import NotPublic, checked_address, is_public
from finetune_trainer.storage.web import WebStore

from tests.trainer.data_inputs import refusal_of

ROWS = json.dumps({"prompt": "hello", "completion": "fine"}).encode() + b"\n"


class Pages(BaseHTTPRequestHandler):
    """A small web server."""

    def do_HEAD(self):
        """Headers only."""
        self.answer(body=False)

    def do_GET(self):
        """Headers and content."""
        self.answer(body=True)

    def answer(self, *, body: bool):
        """Rows, a redirect, a refusal, or nothing, by the path."""
        status = {
            "/moved/rows.jsonl": 302,
            "/inside/rows.jsonl": 302,
            "/plain/rows.jsonl": 302,
            "/login/rows.jsonl": 403,
        }
        self.send_response(
            status.get(self.path, 200 if self.path in ("/rows.jsonl", "/large.jsonl", "/nosize.jsonl") else 404)
        )
        targets = {
            "/moved/rows.jsonl": "/rows.jsonl",
            "/inside/rows.jsonl": "https://169.254.169.254/latest",
            "/plain/rows.jsonl": "http://localhost/rows.jsonl",
        }
        if self.path in targets:
            self.send_header("Location", targets[self.path])
        if self.path != "/nosize.jsonl":
            self.send_header("Content-Length", str(5 << 30 if self.path == "/large.jsonl" else len(ROWS)))
        self.end_headers()
        if body:
            self.wfile.write(ROWS)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def port(tmp_path_factory) -> Iterator[int]:
    """A server on this machine with a certificate for localhost."""
    state = ClusterState(tmp_path_factory.mktemp("web"))
    state.pki.mkdir()
    make_certificates(state)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(state.pki / "kubelet.crt", state.pki / "kubelet.key")
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(state.pki / "ca.crt"))
        yield server.server_address[1]
    server.shutdown()
    server.server_close()


def store(port: int, path: str, *, private: bool = True) -> WebStore:
    """The file at a path of that server."""
    host = f"localhost:{port}"
    address = Address(scheme="https", authority=host, path=path, uri=f"https://{host}/{path}")
    return WebStore(address, Role.DATASET, private=private)


@pytest.mark.parametrize("path", ["rows.jsonl", "moved/rows.jsonl"])
def test_a_file_is_listed_fetched_and_opened(port, tmp_path, path):
    """Also where the server sends us on."""
    rows = store(port, path)

    (file,) = rows.files()
    assert (file.path, file.size_bytes) == ("rows.jsonl", len(ROWS))
    assert (rows.fetch(tmp_path / "into") / "rows.jsonl").read_bytes() == ROWS
    with rows.open("rows.jsonl") as opened:
        assert opened.read() == ROWS


REFUSED = [
    ("gone.jsonl", UserError, "does not exist: correct source or revision in spec.datasets"),
    ("login/rows.jsonl", UserError, "requires a login (HTTP 403): copy the file to a bucket or volume"),
    (
        "plain/rows.jsonl",
        UserError,
        "it redirects to http://, and only https:// is allowed: copy the file to a bucket or volume",
    ),
    ("large.jsonl", UserError, "is larger than 4 GiB: copy it to a bucket or volume and name it there"),
    ("nosize.jsonl", UserError, "the server does not say how large the file is: copy it to a bucket"),
]


@pytest.mark.parametrize(("path", "error", "words"), REFUSED, ids=[path for path, _, _ in REFUSED])
def test_what_cannot_be_read_is_refused_in_words(port, path, error, words):
    """With what to do."""
    with pytest.raises(error) as refusal:
        store(port, path).files()

    assert refusal.value.message.endswith(words)


def test_an_address_inside_the_cluster_is_refused(port):
    """Neither named by the job nor by a redirect: the metadata service of a cloud gives away credentials."""
    with pytest.raises(UserError) as refusal:
        store(port, "rows.jsonl", private=False).files()

    assert (refusal.value.reason, refusal.value.message.split(": ", 1)[1]) == (
        "InvalidSpec", "localhost has the address 127.0.0.1, which is not a public one: copy the file to a bucket or volume"
    )  # fmt: skip


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1",
        "fe80::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_addresses_that_are_not_of_the_internet_are_known(address):
    """Private, shared, link-local, loopback and multicast ones, also inside an IPv6 address."""
    assert not is_public(address)


def test_public_addresses_are_read():
    """Of both kinds."""
    assert is_public("93.184.216.34")
    assert is_public("2606:2800:220:1:248:1893:25c8:1946")


def test_an_address_is_for_data_only():
    """Models and results live elsewhere; a place to write it is not."""
    with pytest.raises(UserError, match="https:// is for datasets only"):
        open_location(Location(uri="https://example.org/model"), Role.MODEL)
    with pytest.raises(UserError, match="https:// is read-only"):
        open_location(Location(uri="https://example.org/rows.jsonl"), Role.DATASET).write_text("x", "y")


def test_a_data_set_may_be_an_address(tmp_path):
    """The door to storage opens it, and what is wrong reaches the user."""
    dataset = Dataset(location=Location(uri="https://localhost/rows.jsonl"))

    assert refusal_of(tmp_path, datasets=(dataset,)) == (
        "InvalidSpec",
        "https://localhost/rows.jsonl: localhost has the address 127.0.0.1, which is not a public one: copy the file to a bucket "
        "or volume",
    )


def test_the_guard_stands_at_every_redirect(port):
    """The first address may be public and lead inside; here the first is allowed, as nothing else answers offline."""
    with pytest.raises(NotPublic, match=r"169\.254\.169\.254"):
        checked_address("169.254.169.254", 443, private=False)
