"""What tests of the controller share: the API as a user sees it, stand-in nodes, and operators as subprocesses."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from finetune_operator.local import ports

from tests.cluster.client import FINETUNE, ApiError, Client, eventually
from tests.cluster.faults import FaultProxy
from tests.cluster.kubelet import Kubelet
from tests.cluster.operator_process import OperatorProcess
from tests.cluster.plays import POOL, a_pool
from tests.cluster.standin import StandIn
from tests.cluster.theatre import Open, Theatre, theatre
from tests.servers.control_plane import ControlPlane

CRDS = Path(__file__).parents[2] / "crds"

StartOperator = Callable[..., OperatorProcess]


@pytest.fixture(scope="session")
def api(control_plane: ControlPlane) -> Client:
    """The API server with our CRDs, as an administrator sees it."""
    control_plane.kubectl("apply", "--server-side", "-f", str(CRDS))
    client = Client(control_plane.kubeconfig)
    for plural in ("finetunejobs", "finetuneplans", "gpupools", "finetunepolicies"):
        eventually(lambda plural=plural: serves(client, plural), f"{plural} are served")
    return client


def serves(client: Client, plural: str) -> bool:
    """Tell whether a new resource can be listed: its storage takes a moment, with 404 and 429 in between."""
    try:
        return "items" in client.get(f"{FINETUNE}/{plural}")
    except ApiError:
        return False


@pytest.fixture(scope="session")
def standin(api: Client) -> Iterator[StandIn]:
    """A GPU node and a CPU node, played by a stand-in, and the pool of the former."""
    node = StandIn(api)
    node.start()
    api.ensure(f"{FINETUNE}/gpupools", a_pool())
    yield node
    node.stop()
    api.delete(f"{FINETUNE}/gpupools/{POOL}")


@pytest.fixture
def kubelet(api: Client, namespace: str, standin: StandIn) -> Iterator[Kubelet]:
    """Three GPU nodes and their pool, on which the test writes the statuses of Pods; preflight runs on the stand-in."""
    nodes = Kubelet(api, namespace)
    nodes.start()
    yield nodes
    nodes.stop()
    for job in api.items(nodes.jobs):
        path = f"{nodes.jobs}/{job['metadata']['name']}"
        if "deletionTimestamp" not in job["metadata"]:
            api.delete(path)
        if job["metadata"].get("finalizers"):
            api.patch(path, {"metadata": {"finalizers": None}})
    for pod in api.items(f"/api/v1/namespaces/{namespace}/pods"):
        nodes.remove(pod["metadata"]["name"])


@pytest.fixture
def proxy(control_plane: ControlPlane, tmp_path: Path) -> Iterator[FaultProxy]:
    """A proxy that breaks things between an operator and the API server."""
    between = FaultProxy(control_plane.kubeconfig, tmp_path)
    between.start()
    yield between
    between.stop()


@pytest.fixture
def free_port() -> int:
    """A port of the loopback that nobody listens on, and that no outgoing connection is given meanwhile."""
    return ports.free_port(set())


QUICK = ("--retry-back-off-seconds=0", "--progress-seconds=1", "--no-leader-elect")
"""Options of operators in tests, unless a test names them itself."""


@pytest.fixture
def start_operator(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[StartOperator]:
    """Start operators that serve the test's namespace only; they end with the test."""
    started: list[OperatorProcess] = []

    def start(*options: str, kubeconfig: Path = control_plane.kubeconfig, everywhere: bool = False) -> OperatorProcess:
        log = tmp_path / f"operator-{len(started)}.log"
        log.touch()
        scope = () if everywhere else (f"--namespace={namespace}",)
        named = {option.partition("=")[0] for option in options}
        quick = [option for option in QUICK if option.partition("=")[0] not in named]
        operator = OperatorProcess(kubeconfig, log, (*scope, *quick, *options))
        started.append(operator)
        return operator

    yield start
    for operator in started:
        operator.close()
        print(operator.text)  # pytest shows it when the test fails


@pytest.fixture
def curtain(
    api: Client, standin: StandIn, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    """Theatres in namespaces of their own; each closes with the next one, the last one with the test."""
    with stages(api, standin, control_plane, tmp_path_factory) as opened:
        yield opened


@pytest.fixture(scope="module")
def curtains(
    api: Client, standin: StandIn, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    """The same, for what the tests of a module are compared with."""
    with stages(api, standin, control_plane, tmp_path_factory) as opened:
        yield opened


@contextmanager
def stages(
    api: Client, standin: StandIn, control_plane: ControlPlane, folders: pytest.TempPathFactory
) -> Iterator[Open]:
    """Yield what opens theatres one after the other."""
    with ExitStack() as stack:

        def open_one() -> Theatre:
            stack.close()
            namespace = control_plane.namespace()
            stack.callback(control_plane.kubectl, "delete", "namespace", namespace, "--wait=false")
            proxy = FaultProxy(control_plane.kubeconfig, folders.mktemp("theatre"))
            return stack.enter_context(theatre(api, standin, namespace, proxy))

        yield open_one
