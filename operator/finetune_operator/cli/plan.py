"""`finetune plan`: what a job would need, take and cost, before it exists. What it cannot see it assumes, and says so."""

from dataclasses import replace
from typing import Annotated

import typer

from finetune_operator.cli.options import Context, Kubeconfig, Namespace
from finetune_operator.cli.output import Output, allowed, print_object
from finetune_operator.cli.plan_options import (
    GPU_PUBLISH_SECONDS,
    Adapters,
    Concurrency,
    Examples,
    File,
    Length,
    Method,
    Model,
    Policy,
    Pools,
    PublishSeconds,
    Quota,
    Tokens,
)


def command(  # noqa: PLR0913, PLR0917 - the options of a command are arguments
    file: File = None,
    pools: Pools = "",
    examples: Examples = None,
    quota: Quota = None,
    policy: Policy = None,
    tokens_per_example: Tokens = None,
    model: Model = "",
    method: Method = None,
    gpu_publish_seconds: PublishSeconds = GPU_PUBLISH_SECONDS,
    output: Output = "",
    explain: Annotated[bool, typer.Option(help="Also print how the figures are calculated.")] = False,
    serving: Annotated[
        bool, typer.Option("--serving", help="Also print what it takes to serve the result on these GPUs.")
    ] = False,
    length: Length = None,
    concurrency: Concurrency = None,
    adapters: Adapters = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Show the memory, time and cost of a job before running it. The job comes from a file or is a default one for a model."""
    from finetune_operator.cli.plan_page import Asked, in_words, page_of  # noqa: PLC0415  # help needs no planner
    from finetune_operator.cli.plan_serving import asked_load, serving_lines  # noqa: PLC0415
    from finetune_operator.cli.plan_view import show  # noqa: PLC0415

    load, shape = asked_load(length, concurrency, adapters, serving=serving), allowed(output, "json", "yaml")
    if file is not None:
        from finetune_operator.cli.plan_merge import merge_job, show_merge  # noqa: PLC0415

        if (merging := merge_job(file)) is not None:
            show_merge(merging, examples, tokens_per_example, shape)
            return
    asked = Asked(
        file=file, model=model, method=method, pools=pools, examples=examples, tokens_per_example=tokens_per_example,
        quota=quota, policy=policy, gpu_publish_seconds=gpu_publish_seconds, namespace=namespace, kubeconfig=kubeconfig, context=context,
    )  # fmt: skip
    page = page_of(asked)
    if shape:
        print_object(in_words(page), shape)
        return
    served = serving_lines(page.planned, page.architecture, load) if load is not None else ()
    show(replace(page, explain=explain, serving=served))
