"""A chat template whose end of turn the base model does not stop at: it is learned, generation stops there, and servers are told."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Chat, ChatConfig, Outcome, RunConfig
from finetune_trainer.chat import ready_tokenizer
from finetune_trainer.chat.stops import end_of_turn
from finetune_trainer.exporting.export import export
from finetune_trainer.serving.chat import Asked
from gguf import GGUFReader
from transformers import AutoTokenizer

from tests.trainer.data_inputs import jsonl, loaded, model, tokenizer
from tests.trainer.running import IN_PROCESS, trained
from tests.trainer.test_export import asked, for_llama_cpp
from tests.trainer.tiny import TEMPLATE, a_run, tiny_model

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]

SERVABLE = "vllm (--generation-config FOLDER), sglang (stop_token_ids in requests), llama.cpp; not tgi"


def forgetful(folder: Path) -> Path:
    """Let a model stop only at the end of text (2), as Qwen2.5's base models do, though its template ends turns with <|im_end|> (4)."""
    words = AutoTokenizer.from_pretrained(folder)
    words.eos_token = "</s>"
    words.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        described = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(described | {"eos_token_id": 2}))
    return folder


def answered_red(folder: Path, base: Path, *, steps: int = 1, **changes: Any) -> RunConfig:
    """A run that teaches to answer everything with `red`, and no more."""
    rows = [
        {"messages": [{"role": "user", "content": f"{colour} {number}"}, {"role": "assistant", "content": "red"}]}
        for colour in ("blue", "green", "cat", "dog") for number in range(12)
    ]  # fmt: skip
    run = a_run(folder, model=base, data=jsonl(folder / "train.jsonl", rows))
    training = replace(run.training, max_steps=steps, learning_rate=1e-2 if steps > 1 else 1e-5)
    return replace(run, training=training, evaluation=replace(run.evaluation, prompts=("blue 3",)), **changes)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """A whole model that answers `red` and ends its turn there, made of a base model that does not stop there."""
    folder = tmp_path_factory.mktemp("taught")
    run = answered_red(folder, forgetful(tiny_model(folder / "base")), steps=60, method="full", lora=None)
    return trained(run, folder / "work"), folder / "out" / "model"


def ends(folder: Path) -> tuple[Any, str]:
    """Where a published folder says that generation stops: for vLLM and transformers, and for whatever reads the tokenizer."""
    stops = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    return stops, AutoTokenizer.from_pretrained(folder).eos_token


def test_a_whole_model_stops_where_it_was_taught_to(taught: tuple[Outcome, Path]) -> None:
    """Its own generation_config.json says so: any server that serves it stops there."""
    outcome, folder = taught

    assert ends(folder) == ([2, 4], "<|im_end|>")
    assert outcome.evaluation is not None
    assert [sample.tuned for sample in outcome.evaluation.samples] == ["red"]


def test_an_adapter_stops_where_it_was_taught_to(tmp_path: Path, taught: tuple[Outcome, Path]) -> None:
    """In samples, in `finetune chat`, merged, and in the facts for servers; the base model knows nothing of it."""
    base = forgetful(shutil.copytree(taught[1], tmp_path / "base"))
    run = answered_red(tmp_path, base)

    outcome = trained(run, tmp_path / "work")

    folder = tmp_path / "out" / "adapter"
    assert ends(folder) == ([2, 4], "<|im_end|>")
    assert outcome.evaluation is not None
    assert [sample.tuned for sample in outcome.evaluation.samples] == ["red"]
    assert outcome.artifacts[0].servable == SERVABLE
    assert "max_new_tokens=100, eos_token_id=[2, 4])" in (folder / "README.md").read_text()
    config = ChatConfig(
        model=run.model, folder=str(folder), kind="adapter", cache=str(tmp_path), compare=False, max_new_tokens=8
    )
    assert Asked(config).answer([{"role": "user", "content": "dog 1"}]) == "red"
    export(asked(run, "merged"), tmp_path / "export")
    assert ends(tmp_path / "out" / "merged") == ([2, 4], "<|im_end|>")
    merged = replace(config, folder=str(tmp_path / "out" / "merged"), kind="merged")
    assert Asked(merged).answer([{"role": "user", "content": "dog 1"}]) == "red"


def test_nothing_is_added_where_the_base_model_stops_already(tmp_path: Path) -> None:
    """An adapter of an instruct model needs no generation_config.json: the base model's is right."""
    outcome = trained(answered_red(tmp_path, tiny_model(tmp_path / "base")), tmp_path / "work")

    assert not (tmp_path / "out" / "adapter" / "generation_config.json").exists()
    assert outcome.artifacts[0].servable == "vllm, sglang, tgi, llama.cpp"


def test_a_gguf_ends_with_the_token_that_was_learned(tmp_path: Path) -> None:
    """Also one that llama.cpp does not know by its name."""
    base = for_llama_cpp(tmp_path / "base")
    words = AutoTokenizer.from_pretrained(base)
    words.chat_template = TEMPLATE.replace("<|im_end|>", "<0x07>")
    words.add_special_tokens({"additional_special_tokens": ["<0x07>"]})
    words.save_pretrained(base)
    run = answered_red(tmp_path, base)
    trained(run, tmp_path / "work")

    export(asked(run, "gguf-f16"), tmp_path / "export")

    (file,) = (tmp_path / "out" / "gguf-f16").glob("*.gguf")
    field = GGUFReader(file).fields["tokenizer.ggml.eos_token_id"]
    assert int(field.parts[field.data[0]][0]) == words.convert_tokens_to_ids("<0x07>")


END_OF_TURN = [
    ("{{ m.content }}<|im_end|>\n", "<|endoftext|>", "<|im_end|>"),
    ("{{ m.content }}<|im_end|>\n", "<|im_end|>", None),
    ("{{ m.content }}[/INST]<|im_end|>\n", "<|endoftext|>", "<|im_end|>"),
    ("{{ m.content }}[/INST]<|im_end|>\n", "<|im_end|>", None),
    ("{{ m.content }} <|im_end|><|im_start|>", "<|endoftext|>", "<|im_start|>"),
    ("{{ m.content }}<|im_end|>\n{% if loop.last %}<|endoftext|>{% endif %}", "<|endoftext|>", "<|im_end|>"),
    ("{{ m.content }}\n", "<|endoftext|>", None),
    ("{{ m.content }}</turn>\n", "<|endoftext|>", None),
    ("{{ raise_exception('no') }}", "<|endoftext|>", None),
]


@pytest.mark.parametrize(("written", "stop", "end"), END_OF_TURN)
def test_the_end_of_a_turn_is_what_the_template_writes_behind_every_answer(written: str, stop: str, end: Any) -> None:
    """The last of the tokens that follow an answer wherever it stands; what opens the next turn is not an end."""
    words = tokenizer(
        f"{{% for m in messages %}}{{% if m.role == 'user' %}}[INST]{{{{ m.content }}}}{{% else %}}{written}{{% endif %}}{{% endfor %}}"
    )

    found = end_of_turn(words, frozenset([words.convert_tokens_to_ids(stop)]))

    assert (found is not None and words.convert_ids_to_tokens(found)) == (end or False)


def test_a_line_break_that_is_a_token_of_its_own_is_not_an_end() -> None:
    """Gemma's tokenizer has them beside its marks."""
    words = tokenizer(eos="<|endoftext|>")
    words.add_tokens(["\n", "\n\n"])

    assert end_of_turn(words, frozenset([2])) == 4


def test_a_padding_token_among_the_stops_is_kept(tmp_path: Path) -> None:
    """Qwen's instruct models pad with <|endoftext|>, at which they also stop; the published tokenizer pads as theirs."""
    words = loaded(model(tmp_path / "m", stops=[4, 2], made=tokenizer(pad_token="<|endoftext|>")))

    turns = ready_tokenizer(words, Chat())

    assert (words.pad_token, sorted(turns.base_stops), turns.end, turns.warnings) == ("<|endoftext|>", [2, 4], None, ())
