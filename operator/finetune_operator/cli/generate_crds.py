"""The CRDs as files, their copies for kustomize and the chart, and the reference of their fields. Called by generate."""

from pathlib import Path

import yaml

from finetune_operator.api.crd import crds, written
from finetune_operator.api.reference import reference
from finetune_operator.api.structural import Schema

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


class PlainDumper(yaml.CSafeDumper):  # type: ignore[misc]  # yaml has no types
    """Writes no aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  # yaml's signature
        """Spell everything out: a reader of a CRD should not have to jump."""
        return True


def files() -> dict[Path, str]:
    """Return the text of every file that is generated as a whole, by its path in the repository."""
    out = {Path("docs/api.md"): f"<!-- {HEADER[2:-1]} -->\n\n{reference(written())}"}
    for crd in crds():
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
