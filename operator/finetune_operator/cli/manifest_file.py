"""Manifests as files: what kubectl would refuse is refused with better words; numbers are those of YAML 1.2, as for kubectl."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from finetune_operator.api.fields import NAME, Model
from finetune_operator.api.group import API_VERSION, JOB_KIND, POLICY_KIND, POOL_KIND
from finetune_operator.api.job_rules import NAME_MESSAGE
from finetune_operator.api.meta import Metadata
from finetune_operator.api.policies import POLICY_NAME, FineTunePolicy, FineTunePolicySpec
from finetune_operator.api.pools import GPUPool, GPUPoolSpec
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.validation import Violation, name_violations, violations
from finetune_operator.cli.known_fields import meant
from finetune_operator.cli.options import STANDARD_INPUT
from finetune_operator.cli.plain_yaml import KeyWrittenTwice, PlainConstructor
from finetune_operator.errors import FinetuneError

Spec = TypeVar("Spec", bound=Model)

NAME_LENGTH = 253
JOB_NAME = Violation("metadata.name", NAME_MESSAGE)
POOL_NAME = Violation("metadata.name", NAME.message)

UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""What such a text begins with: the PowerShell of Windows writes it after `>`."""

MOST_SHOWN = 200
"""Characters of a wrong value in a message."""

WHOLE_FILE = "file"
"""Path of a violation that is no field's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobManifest:
    """A FineTuneJob as its file says it."""

    name: str
    namespace: str
    spec: FineTuneJobSpec
    raw: Mapping[str, Any] = field(default_factory=dict)
    """The whole document, as it is sent to the API server."""


class ManifestInvalid(FinetuneError):
    """The manifest breaks the API's rules; one line per violation."""

    def __init__(self, *found: Violation) -> None:
        super().__init__("\n".join(str(violation) for violation in found))
        self.violations = found


def text_of(path: Path) -> str:
    """Return the text of a file, of standard input for `-`. Raises FinetuneError saying why it cannot be read."""
    try:
        content = sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes()
        return content.decode("utf-16" if content.startswith(UTF_16) else "utf-8")
    except UnicodeDecodeError as error:
        raise FinetuneError(f"{title_of(path)} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except OSError as error:
        raise FinetuneError(f"{title_of(path)} cannot be read: {error.strerror}") from error


def title_of(path: Path) -> str:
    """Return what a message calls a file."""
    return "standard input" if path == STANDARD_INPUT else str(path)


def read_job(path: Path) -> JobManifest:
    """Return the one FineTuneJob of a file. Raises FinetuneError."""
    with naming(path):
        return parse_job(text_of(path))


def read_pools(path: Path) -> tuple[GPUPool, ...]:
    """Return the GPUPools of a file. Raises FinetuneError, the file in each of its lines: a folder holds several."""
    with naming(path, fields=True):
        return parse_pools(text_of(path))


def read_policy(path: Path) -> FineTunePolicy:
    """Return the one FineTunePolicy of a file. Raises FinetuneError."""
    with naming(path):
        found = _documents(text_of(path), POLICY_KIND)
        if len(found) != 1:
            raise ManifestInvalid(Violation(WHOLE_FILE, f"contains {len(found)} FineTunePolicies, not exactly one"))
        misnamed = Violation("metadata.name", f"must be {POLICY_NAME}")
        metadata = _metadata(found[0], misnamed)
        other = () if metadata.name == POLICY_NAME else (misnamed,)
        spec = _spec(FineTunePolicySpec, found[0], other)
    return FineTunePolicy(metadata=metadata, spec=spec)


def read_manifests(path: Path) -> list[dict[str, Any]]:
    """Return all objects of a file. Raises FinetuneError."""
    with naming(path):
        return manifests(text_of(path))


@contextmanager
def naming(path: Path, *, fields: bool = False) -> Iterator[None]:
    """Name the file in what is wrong with the whole of it, and, if asked to, with its fields."""
    try:
        yield
    except ManifestInvalid as error:
        title = title_of(path)
        found = (
            Violation(title, each.message) if each.path == WHOLE_FILE
            else Violation(f"{title}: {each.path}", each.message) if fields
            else each
            for each in error.violations
        )  # fmt: skip
        raise ManifestInvalid(*found) from error


def parse_job(text: str) -> JobManifest:
    """Return the one FineTuneJob of a YAML text; documents of other kinds are skipped.

    Raises ManifestInvalid with all violations.
    """
    jobs = _documents(text, JOB_KIND)
    if len(jobs) != 1:
        raise ManifestInvalid(Violation(WHOLE_FILE, _count_words(text, len(jobs))))
    metadata = _metadata(jobs[0], JOB_NAME)
    spec = _spec(FineTuneJobSpec, jobs[0], name_violations(metadata.name))
    raw = without_nulls(jobs[0])
    assert isinstance(raw, dict)
    return JobManifest(name=metadata.name, namespace=metadata.namespace or "default", spec=spec, raw=raw)


def parse_pools(text: str) -> tuple[GPUPool, ...]:
    """Return the GPUPools of a YAML text; documents of other kinds are skipped.

    Raises ManifestInvalid with the violations of the first bad one.
    """
    found = _documents(text, POOL_KIND)
    if not found:
        raise ManifestInvalid(
            Violation(WHOLE_FILE, "contains no GPUPool: `kubectl get gpupools -o yaml` prints those of a cluster")
        )
    return tuple(_pool(document) for document in found)


def _pool(document: Mapping[str, Any]) -> GPUPool:
    metadata = _metadata(document, POOL_NAME)
    found = () if len(metadata.name) <= NAME_LENGTH and NAME.holds(metadata.name) else (POOL_NAME,)
    return GPUPool(metadata=metadata, spec=_spec(GPUPoolSpec, document, found))


def _count_words(text: str, count: int) -> str:
    kinds = sorted({str(document.get("kind", "no kind")) for document in manifests(text)})
    instead = f" (only {', '.join(kinds)})" if kinds and not count else ""
    return f"contains {count} FineTuneJobs, not exactly one" if count else f"contains no FineTuneJob{instead}"


def manifests(text: str) -> list[dict[str, Any]]:
    """Return all objects of a YAML text, those inside Lists included. Raises ManifestInvalid where it is not YAML."""
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    yaml.Constructor = PlainConstructor
    try:
        read = [document for document in yaml.load_all(text) if isinstance(document, dict)]
    except YAMLError as error:
        raise ManifestInvalid(Violation(WHOLE_FILE, yaml_words(error))) from error
    except RecursionError as error:
        raise ManifestInvalid(Violation(WHOLE_FILE, "is nested too deeply to be a manifest")) from error
    lists = (document.get("items") for document in read)  # kubectl prints Lists
    flat = [
        item
        for document, items in zip(read, lists, strict=True)
        for item in (items if isinstance(items, list) else [document])
    ]
    return [item for item in flat if isinstance(item, dict)]


def scalar(text: str) -> Any:
    """Return what a text means as a value in YAML; the text itself where it means nothing."""
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    yaml.Constructor = PlainConstructor
    try:
        return yaml.load(text)
    except YAMLError:
        return text


def yaml_words(error: YAMLError) -> str:
    """Return what is wrong with a YAML text, and where, on one line."""
    if isinstance(error, KeyWrittenTwice):
        return str(error)
    words = ", ".join(part for name in ("context", "problem") if (part := getattr(error, name, None))) or str(error)
    place = getattr(error, "problem_mark", None)
    where = f" (line {place.line + 1}, column {place.column + 1})" if place else ""
    if "found character '\\t'" in words:
        words = "a tab stands where YAML allows spaces only"
    return f"is not YAML: {' '.join(words.split())}{where}"


def _documents(text: str, kind: str) -> list[dict[str, Any]]:
    ours = [item for item in manifests(text) if str(item.get("kind")).lower() == kind.lower()]
    for item in ours:
        if item["kind"] != kind:
            raise ManifestInvalid(Violation("kind", f"must be {kind}, not {item['kind']}"))
        if item.get("apiVersion") != API_VERSION:
            raise ManifestInvalid(Violation("apiVersion", f"must be {API_VERSION}, not {item.get('apiVersion')}"))
    return ours


def _metadata(document: Mapping[str, Any], too_long: Violation) -> Metadata:
    metadata = document.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise ManifestInvalid(Violation("metadata", f"must be an object with a name, not {metadata!r}"))
    if isinstance(number := metadata.get("name"), int | float):
        text = getattr(number, "text", number)
        raise ManifestInvalid(Violation("metadata.name", f'must be a string: write it in quotes, "{text}"'))
    if not isinstance(metadata.get("name"), str):
        raise ManifestInvalid(Violation("metadata.name", "is missing"))
    if len(metadata["name"]) > NAME_LENGTH:
        raise ManifestInvalid(too_long)
    try:
        return Metadata(name=metadata["name"], namespace=metadata.get("namespace") or "", uid=metadata.get("uid") or "")
    except ValidationError as error:
        broken = (Violation(f"metadata.{problem['loc'][0]}", _words(problem)) for problem in error.errors())
        raise ManifestInvalid(*broken) from error


def _spec(kind: type[Spec], document: Mapping[str, Any], found: tuple[Violation, ...] = ()) -> Spec:
    if document.get("spec") is None:
        raise ManifestInvalid(*found, Violation("spec", "is missing: see docs/api.md for its fields"))
    try:
        spec = kind.model_validate(without_nulls(document.get("spec")), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        broken = (_violation(kind, problem) for problem in error.errors(include_url=False))
        raise ManifestInvalid(*found, *broken) from error
    if broken_rules := (*found, *violations(spec)):
        raise ManifestInvalid(*broken_rules)
    return spec


def without_nulls(value: object) -> object:
    """Return the value as the API server reads it: `key: null` (or nothing after the colon) is an absent key."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def _violation(kind: type[Model], problem: ErrorDetails) -> Violation:
    path = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = meant(kind, re.sub(r"\[\d+\]", "[]", path))
        return Violation(
            path, f"unknown field: {f'did you mean {known}?' if known else 'see docs/api.md for the fields'}"
        )
    return Violation(path, _words(problem))


def _words(problem: ErrorDetails) -> str:
    value = problem["input"]
    match problem["type"]:
        case "missing":
            return "is missing"
        case "string_type" if isinstance(value, int | float) and not isinstance(value, bool):
            return f'is a number: write it in quotes, "{getattr(value, "text", value)}"'
        case "rule":
            return str(problem["msg"])
        case "string_too_long":
            return f"has {len(value):,} characters, and at most {problem['ctx']['max_length']:,} are allowed"
        case _:
            return f"{problem['msg'][0].lower()}{problem['msg'][1:]}, not {_shown(value)}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
