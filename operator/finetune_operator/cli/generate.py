"""`finetune generate`: write the CRDs, the chart's copies and the API reference from the models, or check them."""

from pathlib import Path
from typing import Annotated

import typer
import yaml

from finetune_operator.api.crd import crds
from finetune_operator.api.reference import reference
from finetune_operator.api.structural import Schema
from finetune_operator.cli.generate_chart import chart_files
from finetune_operator.cli.generate_docs import doc_pages
from finetune_operator.errors import FinetuneError

HEADER = "# generated; edit operator/finetune_operator/api/spec.py (or pools.py, status.py) and run `make generate`\n"
CRD_TEMPLATES = Path("charts/finetune-operator/templates/crds")

KEPT_BY_GITOPS = {
    "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
    "kustomize.toolkit.fluxcd.io/prune": "disabled",
}
"""Of a CRD that Argo CD or Flux applies: neither deletes it with the rest."""

KEEP = """  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""


class OutOfDate(FinetuneError):
    """Generated files differ from what the models say."""


class PlainDumper(yaml.CSafeDumper):  # type: ignore[misc]  # yaml has no types
    """Writes no aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  # yaml's signature
        """Spell everything out: a reader of a CRD should not have to jump."""
        return True


def command(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 1 if a file is out of date.")
    ] = False,
    directory: Annotated[Path, typer.Option(help="Root of the repository.")] = Path(),
) -> None:
    """Generate crds/, their copies in the chart, the chart's schema and README, docs/api.md and docs/reference."""
    generated = files() | doc_pages() | chart_files(directory)
    wanted = {directory / path: text for path, text in generated.items()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if check and stale:
        raise OutOfDate(f"out of date: {', '.join(map(str, stale))}; run `make generate`")
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
        print(f"wrote {path}")


def files() -> dict[Path, str]:
    """Return the text of every file that is generated as a whole, by its path in the repository."""
    both = crds()
    out = {Path("docs/api.md"): f"<!-- {HEADER[2:-1]} -->\n\n{reference(both)}"}
    for crd in both:
        name = f"{crd['spec']['names']['plural']}.yaml"
        out[Path("crds") / name] = HEADER + to_yaml(crd)
        out[Path("kustomize") / name] = HEADER + to_yaml(kept(crd))  # kustomize takes no file from outside its folder
        out[CRD_TEMPLATES / name] = HEADER + chart_template(crd)
    return out


def kept(crd: Schema) -> Schema:
    """Return a CRD that GitOps tools leave in place when the operator is uninstalled, because jobs would go with it."""
    return crd | {"metadata": crd["metadata"] | {"annotations": KEPT_BY_GITOPS}}


def chart_template(crd: Schema) -> str:
    """Return a CRD as a template of the chart: kept when the release is uninstalled, because jobs would go with it."""
    text = to_yaml(crd)
    if "{{" in text:
        raise ValueError("a CRD holds {{, which helm would read as a template")
    name = f"metadata:\n  name: {crd['metadata']['name']}\n"
    return "{{- if .Values.crds.enabled }}\n" + text.replace(name, name + KEEP, 1) + "{{- end }}\n"


def to_yaml(value: Schema) -> str:
    """Return block YAML whose order is the models' order."""
    return str(yaml.dump(value, Dumper=PlainDumper, sort_keys=False, width=120, allow_unicode=False))
