"""Restricted Pod security: the parts that are the same in every Pod we create. Called by pod and preflight."""

from finetune_contract.pods import USER, Manifest


def pod_security() -> Manifest:
    """Return the Pod's security context: PodSecurity `restricted`, files of volumes readable by our group."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def isolated(service_account: str | None) -> Manifest:
    """Return the Pod fields that keep the API and other Services out of sight, and let the Pod end when it is told to.

    The kernel drops SIGTERM for process 1 of a PID namespace while it does not listen: with a namespace of its own, a
    container that has just started would go on, and hold its GPUs, until the grace period is over.
    """
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "shareProcessNamespace": True,
        "securityContext": pod_security(),
    } | ({"serviceAccountName": service_account} if service_account else {})
