"""Tokenizer files that a copy or a download spoiled: preflight names the file, whatever the library makes of it."""

from pathlib import Path

import pytest

HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
JSON_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
SPOILED = [
    *((name, HTML, f"{name} of MODEL cannot be used: it is an HTML page. Copy it again")
      for name in (*JSON_FILES, "chat_template.jinja", "config.json", "generation_config.json")),
    *((name, b"", f"{name} of MODEL is empty: copy it again") for name in JSON_FILES),
    *((name, b"[1]", f"{name} of MODEL is not a JSON object: copy it again") for name in JSON_FILES),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), SPOILED)
def test_a_spoiled_tokenizer_file_is_named(refused, name: str, content: bytes, message: str) -> None:
    """A page as a chat template would be rendered for every row."""
    assert refused(files=lambda folder: (folder / name).write_bytes(content)) == ("ModelInvalid", message)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_file_that_was_cut_is_named(refused, name: str) -> None:
    """As a broken download leaves it."""

    def cut(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    reason, message = refused(files=cut)

    assert (reason, message.split(" (")[0], message.rsplit("): ")[-1]) == (
        "ModelInvalid", f"{name} of MODEL is not JSON", "copy it again"
    )  # fmt: skip


def test_a_tokenizer_that_the_library_made_up_is_refused(refused) -> None:
    """Without its files some families get one with nothing but special tokens: every row would be empty."""

    def removed(folder: Path) -> None:
        (folder / "tokenizer.json").write_text(
            '{"version": "1.0", "added_tokens": [{"id": 0, "content": "<s>", "special": true, "single_word": false, "lstrip": false,'
            ' "rstrip": false, "normalized": false}], "model": {"type": "BPE", "vocab": {}, "merges": []}}'
        )
        (folder / "tokenizer_config.json").write_text(
            '{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}'
        )

    assert refused(files=removed) == (
        "ModelInvalid",
        "the tokenizer of MODEL has no tokens but special ones: copy the tokenizer files (tokenizer.json, tokenizer_config.json) of "
        "the model next to config.json",
    )
