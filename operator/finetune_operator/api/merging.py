"""The part of FineTuneJob.spec that merges adapters instead of training one. Part of spec."""

from typing import Annotated, Literal

from finetune_operator.api.cel import Rule
from finetune_operator.api.data import Credentials
from finetune_operator.api.fields import Model, between, items
from finetune_operator.api.locations import REMOTE, Source
from finetune_operator.api.values import AdapterWeight, Density

DEFAULT_DENSITY, DEFAULT_SEED = "0.5", 42


class MergedAdapterSpec(Model):
    """One of the adapters."""

    source: Source
    """Where the adapter is: a folder with adapter_config.json, such as the adapterURI of another job."""
    credentials: Credentials | None = None
    """Secret with the credentials for reading source."""
    weight: AdapterWeight = "1"
    """Weight of the adapter: a decimal in quotes. Federated averaging weights each by the rows it was trained on."""


class MergeOfSpec(Model):
    """Adapters of one revision of one base model that become one adapter. Nothing is trained and no GPU is used."""

    adapters: Annotated[list[MergedAdapterSpec], items("atomic", least=2, most=16)]
    """The adapters. One of another base model or revision is refused."""
    method: Literal["average", "linear", "svd", "ties", "dare"] = "average"
    """How they are merged: average (weighted mean) and linear (weighted sum) are exact; svd is the sum at a lower rank. ties keeps the
    largest values of each adapter and dare random ones, then both take the sum at a lower rank."""
    rank: Annotated[int, between(1, 1024)] | None = None
    """LoRA rank of the result. Default: the sum of the ranks for average and linear, else the largest rank."""
    density: Density | None = None
    """Share of the values of each adapter that ties and dare keep: a decimal in quotes. Default: "0.5"."""
    seed: Annotated[int, between(0, 2_147_483_647)] | None = None
    """Seed for the values that dare drops. Default: 42."""


MERGED_ADAPTER = (
    Rule(
        cel=f"!has(self.credentials) || self.source.matches('^({'|'.join(REMOTE)})://')",
        message="credentials apply to hf://, s3://, gs://, az:// and oci:// only: remove them",
        holds=lambda one: one.credentials is None or one.source.startswith(tuple(f"{scheme}://" for scheme in REMOTE)),
        field="credentials",
    ),
    Rule(
        cel="!has(self.weight) || double(self.weight) != 0.0",
        message="weight must not be 0: remove the adapter",
        holds=lambda one: float(one.weight) != 0,
        field="weight",
    ),
)

MERGE_OF = (
    Rule(
        cel="self.method != 'average' || self.adapters.all(a, !has(a.weight) || !a.weight.startsWith('-'))",
        message="method average needs weights above 0: use method linear to subtract an adapter",
        holds=lambda merge: merge.method != "average" or all(not one.weight.startswith("-") for one in merge.adapters),
        field="adapters",
    ),
    Rule(
        cel="!has(self.density) || self.method in ['ties', 'dare']",
        message="density applies to methods ties and dare only: remove it",
        holds=lambda merge: merge.density is None or merge.method in ("ties", "dare"),
        field="density",
    ),
    Rule(
        cel="!has(self.seed) || self.method == 'dare'",
        message="seed applies to method dare only: remove it",
        holds=lambda merge: merge.seed is None or merge.method == "dare",
        field="seed",
    ),
)
