"""Options that several commands share. Light: a help text loads no client and no models."""

from typing import Annotated, Literal

import typer

from finetune_operator.cli.complete import contexts, job_names, namespaces

Name = Annotated[str, typer.Argument(help="Name of the FineTuneJob.", autocompletion=job_names)]
Namespace = Annotated[
    str,
    typer.Option("--namespace", "-n", help="Namespace. Default: the one in the kubeconfig.", autocompletion=namespaces),
]
Kubeconfig = Annotated[
    str, typer.Option(help="Kubeconfig file. Default: $KUBECONFIG, ~/.kube/config, or the local cluster.")
]
Context = Annotated[
    str, typer.Option(help="Context in the kubeconfig. Default: the current one.", autocompletion=contexts)
]

Group = Literal["namespace", "user", "pool", "model"]
By = Annotated[Group, typer.Option(help="What to add up by: namespace, user, pool or model.")]
