"""A published result on this machine: fetched by digest, asked in the terminal, served by llama.cpp."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from finetune_contract import ChatConfig, Location
from finetune_contract.wire import dumps
from finetune_operator.local.ports import free_port
from finetune_trainer.errors import UserError
from finetune_trainer.exporting.export import export
from finetune_trainer.publishing.artifacts import file_digests, folder_digest
from finetune_trainer.publishing.fetch import bring
from peft import LoraConfig

from tests.servers.hub import serving
from tests.trainer.running import IN_PROCESS
from tests.trainer.test_export import LORA, asked, for_llama_cpp, published, sixteen_bit_base

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]


def test_a_folder_is_fetched_once_and_refused_if_it_was_changed(tmp_path: Path) -> None:
    """By digest: what is here already is not fetched again, and what is not what was published is not kept."""
    source = tmp_path / "out" / "adapter"
    source.mkdir(parents=True)
    (source / "adapter_config.json").write_text("{}")
    place, digest = Location(uri=f"file://{source}"), folder_digest(file_digests(source))
    folder = tmp_path / "here" / "adapter"

    bring(place, folder, digest)
    first = (folder / "adapter_config.json").stat().st_mtime_ns
    bring(place, folder, digest)
    assert (folder / "adapter_config.json").stat().st_mtime_ns == first
    (source / "adapter_config.json").write_text('{"r": 1}')
    with pytest.raises(UserError) as refusal:
        bring(place, tmp_path / "there", digest)

    assert refusal.value.message.endswith(f"not {digest}, which was published: restore its files")
    assert not (tmp_path / "there").exists()


def test_a_folder_of_a_repository_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter at hf://ORG/NAME lies in its folder adapter/."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.add("org/bot", {"adapter/adapter_config.json": "{}", "README.md": "hello"})
        bring(Location(uri="hf://org/bot/adapter"), tmp_path / "adapter", "")

    assert [path.name for path in (tmp_path / "adapter").iterdir()] == ["adapter_config.json"]


@pytest.mark.parametrize("compare", [False, True])
def test_a_conversation_goes_line_by_line(tmp_path: Path, compare: bool) -> None:
    """Both models answer each line where they are compared, and differ."""
    base = sixteen_bit_base(tmp_path / "base")
    run = published(tmp_path, base, LoraConfig(**LORA))
    config = ChatConfig(
        model=run.model, folder=str(tmp_path / "out/adapter"), kind="adapter", cache=str(tmp_path / "cache"),
        compare=compare, max_new_tokens=8,
    )  # fmt: skip
    (tmp_path / "chat.json").write_text(dumps(config))

    done = subprocess.run(
        [sys.executable, "-m", "finetune_trainer", "chat", str(tmp_path / "chat.json")], input="red cat\n\none two\n",
        capture_output=True, text=True, check=False, env=os.environ | {"FINETUNE_ALLOW_FILE": "1"}, timeout=180,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(("base: ", "tuned: "))]
    assert len(lines) == (4 if compare else 0)
    if compare:
        base_line, tuned_line = (line.partition(": ")[2] for line in lines[:2])
        assert base_line != tuned_line


def test_a_gguf_answers_as_openai_does(tmp_path: Path) -> None:
    """On the loopback, under the job's name, until SIGTERM."""
    run = published(tmp_path, for_llama_cpp(tmp_path / "base"), LoraConfig(**LORA), size=0.1)
    export(asked(run, "gguf-q8_0"), tmp_path / "workspace")
    (file,) = (tmp_path / "out/gguf-q8_0").glob("*.gguf")
    port = free_port(set())
    command = [sys.executable, "-m", "finetune_trainer", "serve", str(file), "tiny", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        address = next(line for line in server.stdout if line.startswith("serving tiny at "))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=60) as answer:
            names = [model["id"] for model in json.load(answer)["data"]]
        body = json.dumps({"model": "tiny", "prompt": "red cat", "max_tokens": 4}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/completions", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            usage = json.load(answer)["usage"]
        server.terminate()

    assert f"http://127.0.0.1:{port}/v1" in address
    assert names == ["tiny"]
    assert usage["completion_tokens"] >= 1
    assert server.returncode == 0
