"""`finetune models`: the catalogue of models that can be planned without a network, and the families beyond it."""

from rich.table import Table

from finetune_operator.cli.console import unbroken
from finetune_operator.cli.output import Output, allowed, print_list
from finetune_operator.planning.models.catalogue import CatalogueModel, models
from finetune_operator.planning.models.family_table import FAMILIES


def command(
    output: Output = "",
) -> None:
    """List the models that `finetune plan --model` knows by name. Other models of these families need their config.json."""
    if shape := allowed(output, "json", "yaml", "name"):
        print_list([described(model) for model in models()], shape)
        return
    console = unbroken()
    console.print(table(models()))
    console.print(
        f"Parameter counts are exact. Any model of these families works, given its config.json: {', '.join(sorted(FAMILIES))}."
    )


def described(model: CatalogueModel) -> dict[str, object]:
    """Return one entry as JSON."""
    shape = model.architecture
    return {
        "name": model.name, "aliases": model.aliases, "modelType": shape.model_type,
        "parameters": shape.num_parameters, "activeParameters": shape.num_active_parameters,
        "layers": shape.num_layers, "maxPositionEmbeddings": shape.max_position_embeddings,
        "vocabSize": shape.vocab_size, "source": model.source,
    }  # fmt: skip


def table(entries: tuple[CatalogueModel, ...]) -> Table:
    """Return the catalogue as a table."""
    result = Table(box=None, pad_edge=False)
    for title, right in (("MODEL", False), ("FAMILY", False), ("PARAMETERS", True), ("ACTIVE", True), ("LAYERS", True),
                         ("CONTEXT", True), ("SOURCE", False)):  # fmt: skip
        result.add_column(title, justify="right" if right else "left", no_wrap=title != "SOURCE")
    for entry in entries:
        shape = entry.architecture
        active = billions(shape.num_active_parameters) if shape.num_experts else ""
        result.add_row(
            entry.name, shape.model_type, billions(shape.num_parameters), active, str(shape.num_layers),
            f"{shape.max_position_embeddings:,}", entry.source,
        )  # fmt: skip
    return result


def billions(count: int) -> str:
    """Write a count of parameters as people say it."""
    return f"{count / 1e9:.2f}B" if count >= 999.5e6 else f"{count / 1e6:.0f}M"
