"""URIs of the API: where models, data, results and checkpoints are. Tenants write them, so their shape is narrow."""

from typing import Annotated

from pydantic import StringConstraints

from finetune_operator.api.cel import Checked, Rule, matching, matching_after, not_matching

URI_LENGTH = 1024
"""S3's limit for a key, which is the tightest of the schemes."""

SHAPES = (
    matching_after(
        "hf://",
        "^hf://[^/]+/[^/]+$",
        "hf:// must be followed by ORG/NAME, such as hf://HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    matching_after(
        "s3://",
        "^s3://[^/A-Z]{3,63}/.",
        "s3:// must be followed by BUCKET/PREFIX, such as s3://team-a/support-bot, where BUCKET has 3 to 63 characters and no capital"
        " letter; set an endpoint in the Secret",
    ),
    matching_after(
        "gs://",
        "^gs://[a-z0-9][-_.a-z0-9]{1,220}/.",
        "gs:// must be followed by BUCKET/PREFIX, such as gs://team-a/support-bot, where BUCKET has no capital letter",
    ),
    matching_after(
        "az://",
        "^az://[a-z0-9]{3,24}/[-a-z0-9]{3,63}/.",
        "az:// must be followed by ACCOUNT/CONTAINER/PREFIX, such as az://teama/models/support-bot, where ACCOUNT has 3 to 24 and"
        " CONTAINER 3 to 63 characters, and neither a capital letter",
    ),
    matching_after(
        "oci://",
        "^oci://[a-zA-Z0-9]([-.a-zA-Z0-9]*[a-zA-Z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)+"
        "(:[A-Za-z0-9_][-.A-Za-z0-9_]{0,115}|@sha256:[0-9a-f]{64})$",
        "oci:// must be followed by HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:DIGEST, such as oci://registry.example.com/team-a/support-bot:v1",
    ),
    matching_after(
        "pvc://",
        "^pvc://[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/.",
        "pvc:// must be followed by a PersistentVolumeClaim of this namespace and a path in it, such as pvc://models/llama",
    ),
    matching_after(
        "configmap://",
        "^configmap://[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[A-Za-z0-9._-]{1,253}$",
        "configmap:// must be followed by a ConfigMap of this namespace and a key in it, such as configmap://chat/template.jinja",
    ),
    matching_after(
        "file://",
        "^file:///[^/]",
        "file:// must be followed by an absolute path, such as file:///home/me/data.jsonl",
    ),
)

WEB_SHAPE = matching_after(
    "https://",
    "^https://[a-z0-9.-]+/[^*]*[^*/]$",
    "https:// takes the address of one file, such as https://example.org/qa.jsonl",
)

CLEAN_PATH = not_matching("://.*//|/[.]{1,2}(/|$)", "must not contain //, . or .. in the path: write the full path")
TAGGED = not_matching(
    "^oci://.*@", "needs a tag of a registry, not a digest: a result is published as oci://HOST/REPOSITORY:TAG"
)
NO_TRAILING_SLASH = not_matching("[^/]/$", "must not end with /: remove it")


def location(schemes: tuple[str, ...], *extra: Rule, globs: bool = False) -> Checked:
    """Return the rules of a URI with one of the schemes; `globs` allows * in it."""
    *others, last = [f"{scheme}://" for scheme in schemes]
    local = " (file:// is for the local cluster only)" if "file" in schemes else ""
    return Checked(
        matching(f"^({'|'.join(schemes)})://", f"must start with {', '.join(others)} or {last}{local}"),
        matching(
            f"^(oci://[A-Za-z0-9._:@/-]*|[a-z0-9]*(://)?[A-Za-z0-9._=+,~/{'*' if globs else ''}-]*)$",
            f"may contain only ASCII letters, digits and . _ = + , ~ / -{' and *' if globs else ''}:"
            " put credentials in a Secret and a revision in its own field",
        ),
        CLEAN_PATH,
        *(shape for shape in SHAPES if shape.cel.startswith(tuple(f"!self.startsWith('{s}://')" for s in schemes))),
        *extra,
    )


CHECKPOINT_FOLDER = ".checkpoints"


def checkpoints_beside(output: str) -> str:
    """Return where checkpoints go when the job names no place for them."""
    return f"{output.rstrip('/')}/{CHECKPOINT_FOLDER}"


BUCKETS = ("s3", "gs", "az")
REMOTE = ("hf", *BUCKETS, "oci")
"""Places that ask who is there."""

WITHOUT_CHECKPOINTS = ("hf", "oci")
"""Places that keep results, and no checkpoints."""


def keeps_checkpoints(output: str) -> bool:
    """Say whether checkpoints can be beside an output."""
    return not output.startswith(tuple(f"{scheme}://" for scheme in WITHOUT_CHECKPOINTS))


READ_BACK = (*BUCKETS, "oci")
"""Places where the trainer reads a result back and compares it before it counts."""


def is_read_back(output: str) -> bool:
    """Say whether a result is read back from its output."""
    return output.startswith(tuple(f"{scheme}://" for scheme in READ_BACK))


def is_on_volume(uri: str) -> bool:
    """Say whether files are used in place, and not fetched."""
    return uri.startswith(("pvc://", "file://"))


ANY = (*REMOTE, "pvc", "file")
Length = StringConstraints(min_length=1, max_length=URI_LENGTH)
Source = Annotated[str, Length, location(ANY)]
TemplateSource = Annotated[str, Length, location((*BUCKETS, "pvc", "configmap", "file"), NO_TRAILING_SLASH)]
DataSource = Annotated[str, Length, location((*REMOTE, "pvc", "https", "file"), WEB_SHAPE, globs=True)]
Destination = Annotated[str, Length, location((*BUCKETS, "oci", "pvc", "hf", "file"), NO_TRAILING_SLASH, TAGGED)]
Folder = Annotated[str, Length, location((*BUCKETS, "pvc", "file"), NO_TRAILING_SLASH)]
