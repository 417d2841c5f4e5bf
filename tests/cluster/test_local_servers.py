"""The servers that other tests stand on do what those tests rely on."""

import pytest

from tests.servers.control_plane import ControlPlane
from tests.servers.versitygw import S3Server

pytestmark = pytest.mark.cluster


def test_a_pod_can_be_created_in_a_new_namespace(control_plane: ControlPlane, namespace: str):
    """Admission finds the ServiceAccount of a namespace that was made a moment ago."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": namespace},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    control_plane.apply(pod)

    assert control_plane.get("pod", "p", "-n", namespace)["spec"]["serviceAccountName"] == "default"


def test_the_s3_server_takes_and_gives_objects(s3_server: S3Server):
    """What an S3 client puts is a file in the server's folder."""
    import botocore.session  # noqa: PLC0415 slow, and only here

    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=s3_server.endpoint,
        region_name=s3_server.region,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
    )
    client.put_object(Bucket=s3_server.bucket, Key="a/b.txt", Body=b"hello")

    assert s3_server.read("a/b.txt") == b"hello"
    assert client.get_object(Bucket=s3_server.bucket, Key="a/b.txt")["Body"].read() == b"hello"
