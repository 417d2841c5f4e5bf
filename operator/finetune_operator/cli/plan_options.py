"""The options of plan, with what is assumed where they are left out. Light: a help text loads no planner."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from finetune_contract.served import CONCURRENCY, LENGTH

from finetune_operator.cli.options import must_exist

EXAMPLES, TOKENS_PER_EXAMPLE = 5000, 1000
GPU_PUBLISH_SECONDS = 60
"""As in planning.layouts, and as an operator has it where nobody sets it."""
MOST_EXAMPLES, MOST_TOKENS = 1_000_000_000, 1_000_000
"""Their product is a count that status can hold."""

File = Annotated[
    Path | None,
    typer.Option("-f", "--file", help="YAML file with the FineTuneJob; - for standard input.", callback=must_exist),
]
Pools = Annotated[
    str,
    typer.Option(
        metavar="FILE|FOLDER|built-in",
        help="GPUPools to plan on. Default: those of the cluster, or built-in ones without a cluster.",
    ),
]
Examples = Annotated[
    int | None,
    typer.Option(min=1, max=MOST_EXAMPLES, help=f"Number of rows in the data. Default: counted, or {EXAMPLES}."),
]
Quota = Annotated[
    Path | None,
    typer.Option(
        help="YAML file with the ResourceQuotas and LimitRanges of the namespace; - for standard input. Default: the cluster's.",
        callback=must_exist,
    ),
]
Policy = Annotated[
    Path | None,
    typer.Option(
        help="YAML file with the FineTunePolicy of the namespace; - for standard input. Default: the cluster's, if there is one.",
        callback=must_exist,
    ),
]
Tokens = Annotated[
    int | None,
    typer.Option(min=1, max=MOST_TOKENS, help=f"Average tokens per row. Default: counted, or {TOKENS_PER_EXAMPLE}."),
]
Model = Annotated[
    str, typer.Option(help="Model name from the catalogue, or path of a config.json. Default: spec.model.")
]
Method = Annotated[
    Literal["auto", "lora", "qlora", "full"] | None,
    typer.Option(help="Training method, for a plan without --file. Default: auto."),
]
PublishSeconds = Annotated[
    int,
    typer.Option(
        min=0,
        help="Longest time that the GPUs of a full fine-tune wait for its upload: the operator's setting of that name "
        "(publishing.gpuSeconds of the chart).",
    ),
]
Length = Annotated[
    int | None, typer.Option(min=16, help=f"With --serving: maximum tokens of a request. Default: {LENGTH}.")
]
Concurrency = Annotated[
    int | None, typer.Option(min=1, help=f"With --serving: requests at the same time. Default: {CONCURRENCY}.")
]
Adapters = Annotated[int | None, typer.Option(min=1, help="With --serving: adapters on one server. Default: 1.")]
