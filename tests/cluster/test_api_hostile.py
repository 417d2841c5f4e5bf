"""The real API server and the command line refuse what could do harm, and name the field."""

import json
import re

import pytest
from finetune_operator.cli.manifest_file import ManifestInvalid, parse_job, parse_pools

from tests.cluster.client import ApiError, Client
from tests.cluster.hostile import JOBS, POOLS, Row
from tests.cluster.test_api_refusals import COLLECTIONS
from tests.refusals import GOOD, changed

ROWS = [*(("FineTuneJob", row) for row in JOBS), *(("GPUPool", row) for row in POOLS)]


def named(row: tuple[str, Row]) -> str:
    """Return the field and the beginning of what is hostile about it."""
    return f"{row[1][1]}={ascii(next(iter(row[1][0].values())))[:40]}"


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_what_is_hostile_is_refused_at_its_field(api: Client, row: tuple[str, Row]):
    """By the API server before anything is stored, and by the command line before anything is sent."""
    kind, (values, field, words) = row
    manifest = changed(GOOD[kind], values)
    with pytest.raises(ApiError) as online:
        api.create(COLLECTIONS[kind], manifest)
    with pytest.raises(ManifestInvalid) as offline:
        (parse_job if kind == "FineTuneJob" else parse_pools)(json.dumps(manifest))

    assert re.search(rf"\b{re.escape(field)}: (?:[^,]|,(?! spec\.))*{re.escape(words)}", online.value.message), (
        online.value.message[-600:]
    )
    assert field in [violation.path for violation in offline.value.violations]


def test_there_are_many():
    """Each row was once an idea of how to break in."""
    assert (len(JOBS), len(POOLS)) == (176, 16)
