"""`finetune suspend`: save a checkpoint, release the GPUs and wait."""

from finetune_operator.cli.options import Context, Kubeconfig, Name, Namespace


def command(name: Name, *, namespace: Namespace = "", kubeconfig: Kubeconfig = "", context: Context = "") -> None:
    """Suspend a job: it saves a checkpoint, releases its GPUs and waits until it is resumed."""
    from finetune_operator.cli.jobs import with_jobs  # noqa: PLC0415  # help needs no client
    from finetune_operator.cli.submitting import suspend  # noqa: PLC0415

    print("\n".join(with_jobs((kubeconfig, context, namespace), lambda jobs: suspend(jobs, name))))
