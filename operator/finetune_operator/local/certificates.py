"""Keys, certificates and kubeconfigs of a local cluster, made once. Called by control_plane before the first start."""

import datetime as dt
import ipaddress
import json
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from finetune_operator.local.ports import HOST
from finetune_operator.local.state import ClusterState, write_file

VALID_DAYS = 3650
SERVICE_ADDRESS = "10.96.0.1"
"""Address of the Service `kubernetes`: the first of --service-cluster-ip-range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A certificate to be signed by the cluster's authority."""

    file: str
    name: str
    organization: str = ""
    server_names: tuple[str, ...] = ()
    """Not empty: a serving certificate for these names and addresses."""


IDENTITIES = (
    Identity(file="admin", name="admin", organization="system:masters"),
    Identity(file="controller-manager", name="system:kube-controller-manager"),
    Identity(file="scheduler", name="system:kube-scheduler"),
    Identity(file="node", name="finetune-process-node", organization="system:masters"),
    Identity(file="apiserver-kubelet-client", name="kube-apiserver-kubelet-client", organization="system:masters"),
    Identity(
        file="apiserver",
        name="kube-apiserver",
        server_names=(HOST, SERVICE_ADDRESS, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"),
    ),
    Identity(file="kubelet", name="finetune-process-node", server_names=(HOST, "localhost")),
)
KUBECONFIGS = ("admin", "controller-manager", "scheduler", "node")


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_certificates(state: ClusterState) -> None:
    """Make every key and certificate. The authority comes last, so a crash half-way makes them all anew."""
    if (state.pki / "ca.crt").exists():
        return
    authority = _authority("finetune-local")
    for identity in IDENTITIES:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _signed(identity, key.public_key(), authority)
        write_file(state.pki / f"{identity.file}.key", _private_pem(key))
        write_file(state.pki / f"{identity.file}.crt", _certificate_pem(certificate))
    tokens = ec.generate_private_key(ec.SECP256R1())
    write_file(state.pki / "sa.key", _private_pem(tokens))
    write_file(state.pki / "sa.pub", _public_pem(tokens.public_key()))
    write_file(state.pki / "ca.crt", _certificate_pem(authority.certificate))


def write_kubeconfigs(state: ClusterState, port: int) -> None:
    """Write the kubeconfigs; at every start, because the port may have changed."""
    for name in KUBECONFIGS:
        write_file(state.root / f"{name}.conf", json.dumps(_kubeconfig(state, name, port), indent=1))


def _kubeconfig(state: ClusterState, name: str, port: int) -> dict[str, object]:
    cluster = {"server": f"https://{HOST}:{port}", "certificate-authority": str(state.pki / "ca.crt")}
    user = {"client-certificate": str(state.pki / f"{name}.crt"), "client-key": str(state.pki / f"{name}.key")}
    context = f"finetune-{state.root.name}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [{"name": context, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": name}}],
    }


def _authority(name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = _key_usage(signs_certificates=True)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _dated(subject, key.public_key())
        .issuer_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def _signed(identity: Identity, key: ec.EllipticCurvePublicKey, authority: Authority) -> x509.Certificate:
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if identity.server_names else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _dated(_subject(identity), key)
        .issuer_name(authority.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if identity.server_names:
        names = x509.SubjectAlternativeName([_general_name(name) for name in identity.server_names])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def _dated(subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    """Begin a certificate that is valid from an hour ago: clocks step back when a laptop wakes."""
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
    )


def _subject(identity: Identity) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, identity.name)]
    if identity.organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.organization))
    return x509.Name(attributes)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    pem = serialization.Encoding.PEM
    # kube-controller-manager signs tokens with this key and reads the traditional (SEC1) form as well as PKCS8
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(pem, form, serialization.NoEncryption()).decode()


def _public_pem(key: ec.EllipticCurvePublicKey) -> str:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def _certificate_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
