"""`finetune serve`: a published result behind an OpenAI-compatible API on this machine: llama.cpp, or vLLM where it is installed."""

from typing import Annotated, Literal

import typer

from finetune_operator.cli.options import Claims, Context, Kubeconfig, Name, Namespace, joined

Engine = Literal["auto", "llama-cpp", "vllm"]


def command(  # one parameter per option is how typer works
    name: Name,
    *,
    engine: Annotated[Engine, typer.Option(help="Engine. Default: llama.cpp for a GGUF, else vLLM.")] = "auto",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8000,
    claim: Claims = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Serve a job's result on this machine, with an OpenAI-compatible API at http://127.0.0.1:8000/v1."""
    from finetune_operator.cli.serving import serve  # noqa: PLC0415  # help needs none of this

    claims = joined(claim or [], "--claim")
    raise typer.Exit(serve(name, (kubeconfig, context, namespace), claims, engine, port))
