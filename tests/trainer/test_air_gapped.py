"""A network without a way out: hub mirror, bucket and web server by TLS of an own authority, reached through a proxy that alone knows them.

The environment of the processes is what the operator's settings put into every Pod.
"""

import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import pytest
import trustme
from finetune_contract import Location, Model, PreflightConfig, RunConfig, parse_outcome
from finetune_operator.api.pod_settings import read_pod_settings
from finetune_operator.manifests import pool_pod
from finetune_trainer.storage.untrusted import REMEDY

from tests.servers.hub import TOKEN, serving
from tests.servers.proxy import Proxy, proxy
from tests.servers.versitygw import S3Server, s3_server
from tests.trainer.data_inputs import a_config
from tests.trainer.running import Container
from tests.trainer.test_preflight_pod import in_a_pod
from tests.trainer.tiny import a_run, conversations, tiny_model

pytestmark = pytest.mark.trainer

Config = TypeVar("Config", PreflightConfig, RunConfig)
NAMES = ("hub.corp.test", "s3.corp.test", "data.corp.test")


@dataclass(frozen=True)
class Network:
    """What is there: the proxy, the authority's certificate, and the servers behind them."""

    proxy: Proxy
    authority: Path
    bucket: S3Server
    hub: str
    commit: str

    def environment(self, folder: Path, *, without: str = "") -> dict[str, str]:
        """Return what a Pod is told: the settings of the installation, and the Secrets of the job."""
        values = {"HTTPS_PROXY": self.proxy.address, "HF_ENDPOINT": self.hub}
        variables = ",".join(f'{{"key": "{name}", "value": "{value}"}}' for name, value in values.items())
        settings = read_pod_settings(f'{{"environment": [{variables}], "caBundle": {{"configMap": "company-ca"}}}}')
        told = {each["name"]: each["value"] for each in pool_pod.environment(settings.elsewhere)}
        mounted = pool_pod.CA_FOLDER + "/ca.crt"  # what the kubelet would mount there lies here
        told = {name: str(self.authority) if value == mounted else value for name, value in told.items()}
        for secret, keys in (("hf", {"HF_TOKEN": TOKEN}), ("s3", self.bucket.environment)):
            (folder / secret).mkdir(parents=True, exist_ok=True)
            for key, value in keys.items():
                (folder / secret / key).write_text(value)
        secrets = {"FINETUNE_SECRETS": f"hf={folder / 'hf'}:s3={folder / 's3'}", "HF_HOME": str(folder / "home")}
        return {name: value for name, value in (told | secrets).items() if name != without}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """The company's network, with a model on the hub mirror and rows on the web server."""
    folder = tmp_path_factory.mktemp("network")
    authority = trustme.CA()
    issued = authority.issue_cert(*NAMES)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for number, part in enumerate(issued.cert_chain_pems):
        part.write_to_path(folder / "cert.pem", append=number > 0)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(tls)
    (folder / "web").mkdir()
    conversations(folder / "web" / "rows.jsonl", rows=120)
    pages = partial(SimpleHTTPRequestHandler, directory=str(folder / "web"))
    with ExitStack() as stack:
        web = ThreadingHTTPServer(("127.0.0.1", 0), pages)
        web.socket = tls.wrap_socket(web.socket, server_side=True)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        stack.callback(web.server_close)
        stack.callback(web.shutdown)
        hub = stack.enter_context(serving(tls))
        files = {path.name: path.read_bytes() for path in tiny_model(folder / "model").iterdir()}
        commit = hub.add("org/base", files, private=True)
        (folder / "s3").mkdir()
        bucket = stack.enter_context(s3_server(folder / "s3", certificate=(folder / "cert.pem", folder / "key.pem")))
        between = stack.enter_context(proxy(folder, web_port=web.server_address[1]))
        yield Network(
            proxy=between,
            authority=folder / "ca.pem",
            bucket=replace(bucket, endpoint=bucket.endpoint.replace("127.0.0.1", "s3.corp.test")),
            hub=hub.endpoint.replace("127.0.0.1", "hub.corp.test"),
            commit=commit,
        )


@pytest.fixture(autouse=True)
def _nothing_from_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies and certificates are those of the Pod."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in pool_pod.CA_VARIABLES:
            monkeypatch.delenv(name)


def elsewhere(config: Config, bucket: str) -> Config:
    """Return a configuration whose model, rows and output are in the company's network."""
    out, checkpoint = f"s3://{bucket}/air/bot", config.checkpoint
    beside = Location(uri=f"{out}/.checkpoints", secret="s3")
    rows = Location(uri="https://data.corp.test/rows.jsonl")
    return replace(
        config,
        model=Model(location=Location(uri="hf://org/base", secret="hf")),
        datasets=(replace(config.datasets[0], location=rows),),
        output=Location(uri=out, secret="s3"),
        checkpoint=beside if isinstance(checkpoint, Location) else replace(checkpoint, location=beside),
    )


def test_preflight_and_trainer_reach_everything_through_the_proxy(network: Network, tmp_path: Path):
    """A job is examined, trained and published: nothing but the proxy knows the three names."""
    environment = network.environment(tmp_path / "secrets")
    plain = a_config(tmp_path, base=tmp_path, data=tmp_path / "none.jsonl")
    examined = in_a_pod(elsewhere(plain, network.bucket.bucket), tmp_path / "preflight", **environment)
    outcome = parse_outcome((tmp_path / "preflight" / "termination-log").read_text())
    run = elsewhere(a_run(tmp_path, model=tmp_path, data=tmp_path), network.bucket.bucket)
    container = Container(run, tmp_path / "trainer", **environment)
    code, trained = container.wait()

    assert outcome is not None, examined.stderr
    assert (examined.returncode, outcome.reason) == (0, "Prepared"), outcome.message
    assert outcome.preflight is not None
    assert outcome.preflight.model_revision == network.commit
    assert (code, trained.reason) == (0, "Published"), trained.message
    assert network.bucket.read("air/bot/adapter/adapter_model.safetensors")
    assert network.proxy.asked_for == set(NAMES)


@pytest.mark.parametrize(
    ("without", "words"),
    [
        ("SSL_CERT_FILE", f"for the model hf://org/base ({REMEDY})"),
        ("HTTPS_PROXY", "for the model hf://org/base (ConnectError)"),
    ],
)
def test_what_is_missing_is_said(network: Network, tmp_path: Path, without: str, words: str):
    """Without the authority, or without the proxy, preflight says so; the GPU is not asked for."""
    environment = network.environment(tmp_path / "secrets", without=without)
    plain = a_config(tmp_path, base=tmp_path, data=tmp_path / "none.jsonl")
    done = in_a_pod(elsewhere(plain, network.bucket.bucket), tmp_path / "preflight", **environment)
    outcome = parse_outcome((tmp_path / "preflight" / "termination-log").read_text())

    assert outcome is not None
    assert (done.returncode, outcome.reason) == (1, "StorageUnavailable")
    assert words in outcome.message
