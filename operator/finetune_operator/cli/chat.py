"""`finetune chat`: ask a published result in the terminal, beside its base model with --compare. Runs on this machine's CPU."""

from typing import Annotated

import typer

from finetune_operator.cli.options import Claims, Context, Kubeconfig, Name, Namespace, joined


def command(  # one parameter per option is how typer works
    name: Name,
    *,
    compare: Annotated[bool, typer.Option("--compare", help="Let the base model answer each line too.")] = False,
    max_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Maximum tokens of an answer.")] = 256,
    claim: Claims = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Ask a job's result line by line. Lines come from the terminal or from standard input."""
    from finetune_operator.cli.chatting import chat  # noqa: PLC0415  # help needs none of this

    claims = joined(claim or [], "--claim")
    raise typer.Exit(chat(name, (kubeconfig, context, namespace), claims, compare=compare, max_tokens=max_tokens))
