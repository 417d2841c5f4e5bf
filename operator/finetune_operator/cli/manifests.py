"""`finetune manifests`: published results as objects that serve them, sized by the planner's arithmetic."""

from typing import Annotated

import typer
from finetune_contract.served import CONCURRENCY, LENGTH, Engine, Load

from finetune_operator.cli.complete import job_names
from finetune_operator.cli.options import Context, Kubeconfig, Namespace


def command(  # noqa: PLR0913  # one parameter per option is how typer works
    names: Annotated[
        list[str],
        typer.Argument(help="Names of FineTuneJobs; several are adapters of one base model.", autocompletion=job_names),
    ],
    *,
    engine: Annotated[Engine, typer.Option("--for", help="What to serve with.")] = "vllm",
    length: Annotated[int, typer.Option(min=16, help="Maximum tokens of a request, prompt and answer.")] = LENGTH,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at the same time.")] = CONCURRENCY,
    image: Annotated[str, typer.Option(help="Image of the server. Default: the version that was tried.")] = "",
    name: Annotated[
        str,
        typer.Option(
            help="Name of the server and of the one model that it serves, for all versions. Default: the job's."
        ),
    ] = "",
    unpromoted: Annotated[bool, typer.Option(help="Also serve results that did not pass their gate.")] = False,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Print manifests that serve the results of jobs, for `kubectl apply -f -`."""

    from finetune_operator.cli.jobs import Jobs, with_jobs  # noqa: PLC0415  # help needs none of this
    from finetune_operator.cli.plans import whole  # noqa: PLC0415
    from finetune_operator.cli.serving_objects import Wishes, serving_objects  # noqa: PLC0415

    load = Load(length=length, concurrency=concurrency)
    wishes = Wishes(load=load, image=image, name=name, unpromoted=unpromoted)

    async def read(jobs: Jobs) -> str:
        found = [await whole(jobs, name) for name in names]
        return serving_objects(found, engine, wishes)

    print(with_jobs((kubeconfig, context, namespace), read), end="")
