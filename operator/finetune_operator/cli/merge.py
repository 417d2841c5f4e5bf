"""`finetune merge`: several adapters of one base model as one, on this machine, without a GPU and without the base model."""

from typing import Annotated, Literal

import typer

from finetune_operator.cli.options import Claims, joined

Method = Literal["average", "linear", "svd", "ties", "dare"]
DENSITY, SEED = 0.5, 42
METHODS = (
    "average: weighted mean; linear: weighted sum; svd: the sum at a lower rank; ties, dare: the largest or random values of each, "
    "then svd."
)


def command(  # noqa: PLR0913  # one parameter per option is how typer works
    adapters: Annotated[
        list[str],
        typer.Argument(metavar="ADAPTER[=WEIGHT]...", help="Adapters: folders or URIs, each with its weight."),
    ],
    *,
    output: Annotated[str, typer.Option("--to", help="Folder or URI for the combined adapter.")],
    method: Annotated[Method, typer.Option(help=METHODS)] = "average",
    rank: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, help="LoRA rank of the result. Default: exact for average and linear, else the largest."
        ),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(min=0.01, max=1.0, help=f"ties, dare: share of the values that is kept. Default: {DENSITY}."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help=f"dare: which values are dropped. Default: {SEED}.")] = None,
    claim: Claims = None,
    secret: Annotated[
        str,
        typer.Option(
            metavar="NAME=FOLDER",
            help="Folder with one file per key, for s3://, gs://, az://, oci:// and hf:// locations.",
        ),
    ] = "",
) -> None:
    """Make one adapter of several that belong to one revision of one base model."""
    refuse_idle(method, density=density, seed=seed)
    secrets, claims = joined([secret] if secret else [], "--secret"), joined(claim or [], "--claim")

    from finetune_contract import CombineConfig  # noqa: PLC0415  # help needs none of this

    from finetune_operator.cli.merging import merge, place, refuse_weights, weighted  # noqa: PLC0415  # help needs none of this

    opens = secrets.partition("=")[0]
    config = CombineConfig(
        adapters=tuple(weighted(one, opens) for one in adapters), method=method, rank=rank or 0,
        density=DENSITY if density is None else density, seed=SEED if seed is None else seed, output=place(output, opens),
    )  # fmt: skip
    refuse_weights(config)
    print(merge(config, claims, secrets))


def refuse_idle(method: Method, *, density: float | None, seed: int | None) -> None:
    """Raise typer.BadParameter for options that the method does not use."""
    if density is not None and method not in ("ties", "dare"):
        raise typer.BadParameter(f"--density is for ties and dare, not for {method}: leave it out")
    if seed is not None and method != "dare":
        raise typer.BadParameter(f"--seed is for dare, not for {method}: leave it out")
