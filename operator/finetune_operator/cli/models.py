"""`finetune models`: the catalogue of models that can be planned without a network, and the families beyond it."""

from finetune_operator.cli.output import Output, allowed, print_list
from finetune_operator.cli.tables import at_the_right, fitted, sentence, terminal_width
from finetune_operator.planning.models.catalogue import CatalogueModel, models
from finetune_operator.planning.models.family_table import FAMILIES

FIGURES = ("PARAMETERS", "ACTIVE", "LAYERS", "CONTEXT")
DROPPED = ("SOURCE", "LAYERS", "ACTIVE", "FAMILY")
"""In this order, where a terminal is narrow."""


def command(
    output: Output = "",
) -> None:
    """List the models that `finetune plan --model` knows by name. Other models of these families need their config.json."""
    if shape := allowed(output, "json", "yaml", "name"):
        print_list([described(model) for model in models()], shape)
        return
    width = terminal_width()
    print("\n".join(fitted(at_the_right(table(models()), *FIGURES), width, shorten="", drop=DROPPED)))
    families = ", ".join(sorted(FAMILIES))
    print(
        sentence(
            f"Parameter counts are exact. Any model of these families works, given its config.json: {families}.", width
        )
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


def table(entries: tuple[CatalogueModel, ...]) -> list[list[str]]:
    """Return the catalogue as rows, the titles first."""
    rows = [["MODEL", "FAMILY", *FIGURES, "SOURCE"]]
    for entry in entries:
        shape = entry.architecture
        active = billions(shape.num_active_parameters) if shape.num_experts else ""
        figures = (billions(shape.num_parameters), active, str(shape.num_layers), f"{shape.max_position_embeddings:,}")
        rows.append([entry.name, shape.model_type, *figures, entry.source])
    return rows


def billions(count: int) -> str:
    """Write a count of parameters as people say it."""
    return f"{count / 1e9:.2f}B" if count >= 999.5e6 else f"{count / 1e6:.0f}M"
