"""Valid jobs with one thing changed, drawn from the schema of the real CRD. Called by test_faults_mutations."""

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tests.cluster.client import Raw
from tests.cluster.plays import POOL, a_job
from tests.refusals import REPOSITORY, own_examples

CRD = REPOSITORY / "crds/finetunejobs.yaml"
ABSENT = object()
TEXTS = (
    "",
    " ",
    "x",
    "-1",
    "0",
    "NaN",
    "1e309",
    "ü\n\t\u202e",
    "../..",
    "{{ x }}",
    "s3://",
    "s3://bucket/a b?c#d",
    "hf://",
)
MOST_TEXT = 2000

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Mutation:
    """One change of a job."""

    path: Path
    value: Any

    def __str__(self) -> str:
        what = "absent" if self.value is ABSENT else repr(self.value)
        return f"{'.'.join(map(str, self.path))}: {what[:60]}"

    def applied(self, job: Raw) -> Raw:
        """Return the job with the change; what leads to the field is made where it is missing."""
        changed = copy.deepcopy(job)
        place: Any = changed["spec"]
        for step, following in zip(self.path, self.path[1:], strict=False):
            if isinstance(place, list):
                place.extend([{}] * (int(step) + 1 - len(place)))
                place = place[int(step)]
            else:
                place = place.setdefault(step, [] if isinstance(following, int) else {})
        last = self.path[-1]
        if self.value is not ABSENT:
            place[last] = self.value
        elif last in place:
            del place[last]
        return changed


def fields(schema: Raw, path: Path = ()) -> Iterator[tuple[Path, Raw]]:
    """Return each field of a schema, and where it is; of a list its first entry."""
    for name, field in schema.get("properties", {}).items():
        yield (*path, name), field
        yield from fields(field, (*path, name))
        if field.get("items", {}).get("type") == "object":
            yield from fields(field["items"], (*path, name, 0))


def values(field: Raw) -> list[Any]:
    """Return what a user might write into a field: each edge, and what lies just beyond it."""
    match field.get("type"):
        case "boolean":
            return [True, False]
        case "integer":
            low, high = field.get("minimum", 0), field.get("maximum", 2**31)
            return [low, low + 1, high, low - 1, high + 1, 0, -1]
        case "string":
            longest = field.get("maxLength", MOST_TEXT)
            return [*field.get("enum", ()), *TEXTS, "x" * min(longest, MOST_TEXT), "x" * (longest + 1)]
        case "array":
            entry = {} if field["items"].get("type") == "object" else "x"
            return [[], [entry], [entry] * 2, [entry] * (field.get("maxItems", 8) + 1)]
        case _:
            return [{}]


def mutations() -> list[Mutation]:
    """Return all of them: each field absent, null, of another type, and with each of its values."""
    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return [
        Mutation(path, value)
        for path, field in fields(schema["properties"]["spec"])
        for value in (ABSENT, None, 7 if field.get("type") == "string" else "seven", *values(field))
    ]


def valid_jobs() -> list[Raw]:
    """Return the examples' jobs, in the pool of the tests' nodes, and a small one."""
    documents = (each for path in own_examples() for each in yaml.safe_load_all(path.read_text()))
    jobs = [each for each in documents if each["kind"] == "FineTuneJob"]
    for job in jobs:
        job["spec"].setdefault("resources", {})["pools"] = [POOL]
    return [a_job("small"), *jobs]


def drawn(number: int, seed: int) -> list[tuple[Mutation, Raw]]:
    """Return so many mutated jobs, each with a name and an output of its own unless that is what was changed."""
    dice, bases, chosen = random.Random(seed), valid_jobs(), mutations()
    found = []
    for index, mutation in enumerate(dice.sample(chosen, number)):
        job = copy.deepcopy(dice.choice(bases))
        name = f"mutant-{index}"
        job["metadata"] = {"name": name}
        job["spec"]["output"]["destination"] = f"s3://bucket/{name}"
        job["spec"].get("checkpoint", {}).pop("destination", None)
        found.append((mutation, mutation.applied(job)))
    return found
