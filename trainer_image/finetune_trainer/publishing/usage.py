"""The part of a model card that loads what was published, from the place where it lies. Pure text; runs as it is. Called by card."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from finetune_contract import RunConfig

from finetune_trainer.storage.modelpack import tag_of
from finetune_trainer.storage.registry_login import scheme_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetching:
    """Python that brings a folder here."""

    imports: tuple[str, ...]
    lines: tuple[str, ...]
    value: str
    """The expression that names the folder."""


def usage(run: RunConfig, kind: str, *, chat: bool, stops: Sequence[int] = ()) -> str:
    """Return the section: fetch, load, ask. `chat`: the tokenizer has a chat template; `stops`: where the base model does not stop."""
    result = fetching(published_at(run.output.uri, kind), kind)
    base = _base(run) if kind == "adapter" else None
    loaded = "AutoModelForCausalLM.from_pretrained("
    options = ', dtype="auto"' + (", trust_remote_code=True" if run.model.trust_remote_code else "")
    libraries = ("from transformers import AutoModelForCausalLM, AutoTokenizer",)
    if base is None:
        imports = (*result.imports, *libraries)
        model: tuple[str, ...] = (f"model = {loaded}folder{options})",)
    else:
        imports = (*result.imports, *base.imports, "from peft import PeftModel", *libraries)
        revision = f", revision={json.dumps(run.model.revision)}" if run.model.revision else ""
        model = (
            f"base = {loaded}{base.value}{revision}{options})",
            "model = PeftModel.from_pretrained(base, folder)",
        )
    lines = (
        *dict.fromkeys(sorted(imports)), "", *result.lines, f"folder = {result.value}", *(base.lines if base else ()), *model,
        "tokenizer = AutoTokenizer.from_pretrained(folder)", "", *(_CHAT if chat else _TEXT), *_answer(stops),
    )  # fmt: skip
    return "## Use\n\n```python\n" + "\n".join(lines) + "\n```\n"


_CHAT = (
    'messages = [{"role": "user", "content": "Hello"}]',
    'inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")',
)
_TEXT = ('inputs = tokenizer("Hello", return_tensors="pt")',)


def _answer(stops: Sequence[int]) -> tuple[str, ...]:
    ends = f", eos_token_id={list(stops)}" if stops else ""
    return (
        f"answer = model.generate(**inputs, max_new_tokens=100{ends})[0, inputs.input_ids.shape[1] :]",
        "print(tokenizer.decode(answer, skip_special_tokens=True))",
    )


def published_at(output: str, kind: str) -> str:
    """Return where a form of the result is: below a folder, or at a tag of its own."""
    if not output.startswith("oci://"):
        return f"{output.rstrip('/')}/{kind}"
    repository, _, tag = output.rpartition(":")
    return f"{repository}:{tag_of(tag, kind)}"


def fetching(uri: str, name: str) -> Fetching:
    """Return how a folder at a location is brought here. `name`: the local folder that it is copied to."""
    scheme, _, rest = uri.partition("://")
    authority, _, path = rest.partition("/")
    match scheme:
        case "hf":
            return _from_hub(authority, path)
        case "s3":
            lines = (f"S3FileSystem().get({json.dumps(f'{rest}/')}, {json.dumps(f'{name}/')}, recursive=True)",)
            return Fetching(imports=("from s3fs import S3FileSystem",), lines=lines, value=json.dumps(name))
        case "gs":
            lines = (f"GCSFileSystem().get({json.dumps(f'{rest}/')}, {json.dumps(f'{name}/')}, recursive=True)",)
            return Fetching(imports=("from gcsfs import GCSFileSystem",), lines=lines, value=json.dumps(name))
        case "az":
            files = f"AzureBlobFileSystem({json.dumps(authority)}, anon=False)"
            lines = (f"{files}.get({json.dumps(f'{path}/')}, {json.dumps(f'{name}/')}, recursive=True)",)
            return Fetching(imports=("from adlfs import AzureBlobFileSystem",), lines=lines, value=json.dumps(name))
        case "oci":
            plain = ["--plain-http"] if scheme_of(authority, {}) == "http" else []
            command = json.dumps(["oras", "pull", *plain, rest, "--output", name])
            return Fetching(
                imports=("import subprocess",),
                lines=(f"subprocess.run({command}, check=True)",),
                value=json.dumps(name),
            )
        case "pvc":
            where = f"# in a Pod that mounts the PersistentVolumeClaim {authority} at /mnt/{authority}"
            return Fetching(imports=(), lines=(where,), value=json.dumps(f"/mnt/{authority}/{path}"))
    return Fetching(imports=(), lines=(), value=json.dumps(f"/{path}"))


def _from_hub(owner: str, path: str) -> Fetching:
    repository, _, below = path.partition("/")
    call = f"snapshot_download({json.dumps(f'{owner}/{repository}')}, allow_patterns={json.dumps(f'{below}/*')})"
    return Fetching(
        imports=("from huggingface_hub import snapshot_download",),
        lines=(),
        value=f"{call} + {json.dumps(f'/{below}')}",
    )


def _base(run: RunConfig) -> Fetching:
    """The base model: transformers fetches it from the hub by itself."""
    uri = run.model.location.uri
    if uri.startswith("hf://"):
        return Fetching(imports=(), lines=(), value=json.dumps(uri.removeprefix("hf://")))
    return fetching(uri.rstrip("/"), "base")
