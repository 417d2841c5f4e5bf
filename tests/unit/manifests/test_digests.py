"""Two jobs with the same digest train the same thing; an edit that preflight or plan rests on is noticed."""

from typing import Any

import pytest
from finetune_operator.manifests.digests import examined_digest, spec_digest

from tests.unit.lifecycle.lifecycle_builders import a_job

BASE = a_job().spec
MODEL = {"source": "hf://org/model", "revision": "c" * 40}
DATA = {"source": "s3://team-a/train.jsonl"}


@pytest.mark.parametrize(
    ("spec", "same_run", "same_examination"),
    [
        ({"lora": {"rank": 16}}, True, True),
        ({"training": {"seed": 42}}, True, True),
        ({"suspend": True}, True, True),
        ({"planOnly": True}, True, True),
        ({"runPolicy": {"maxRetries": 9, "budget": {"maxCostUSD": "5"}}}, True, True),
        ({"resources": {"gpus": 8}}, True, False),
        ({"output": {"destination": "s3://team-a/elsewhere"}}, True, False),
        ({"output": {"destination": "s3://team-a/out", "credentials": {"secretName": "s"}}}, True, False),
        ({"datasets": [{**DATA, "credentials": {"secretName": "s"}}]}, True, False),
        ({"model": {**MODEL, "credentials": {"secretName": "s"}}}, True, False),
        ({"model": {**MODEL, "revision": "main"}}, True, False),
        ({"checkpoint": {"keep": 5}}, True, False),
        ({"evaluation": {"gate": {"minRelativeLossImprovement": "0.1"}}}, True, False),
        ({"lora": {"rank": 8}}, False, False),
        ({"training": {"seed": 7}}, False, False),
        ({"training": {"epochs": 2}}, False, False),
        ({"method": "full"}, False, False),
        ({"datasets": [{**DATA, "maxExamples": 10}]}, False, False),
        ({"datasets": [DATA, DATA]}, False, False),
        ({"evaluation": {"fraction": "0.1"}}, False, False),
        ({"chat": {"trainOn": "last"}}, False, False),
        (
            {"evaluation": {"metrics": [{"type": "lmEval", "lmEval": {"source": "s3://team-a/t", "task": "t"}}]}},
            False,
            False,
        ),
        ({"model": {"source": "hf://org/other"}}, False, False),
    ],
)
def test_what_a_digest_depends_on(spec: dict[str, Any], same_run: bool, same_examination: bool):
    """Defaults written out are the same spec; credentials, places and limits are not what is learned."""
    other = a_job(**spec).spec
    seen = (spec_digest(other) == spec_digest(BASE), examined_digest(other) == examined_digest(BASE))

    assert seen == (same_run, same_examination)


def test_digests_are_stable():
    """A stored claim is compared with what a later version of the operator computes."""
    assert spec_digest(BASE) == "sha256:250117b0b91291bfbea46dec1259e7ce596f87a4a67b2ae897e8f0b9f25c230e"
