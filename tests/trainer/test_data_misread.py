"""Texts that were read with the wrong encoding and saved again: told with an example, and never where a text is as it was written."""

# ruff: noqa: RUF001 - real texts hold such signs

import pytest
from finetune_trainer.data.misread import meant, misread

from tests.trainer.data_inputs import a_request, jsonl, prepared_rows, said, tokenizer

HEALTHY = [
    "Où est l’entrée ? « Elle est fermée… »\xa0: À côté du café.",
    "„Spaß“ – Größe, Übung, Äpfel: 20 °C, 5 €",
    "Tiếng Việt có sáu thanh điệu, ví dụ: ế, ộ, ừ.",
    "你好，世界！富士山の高さ",
    "[OPCIÓ…]",
    "CAFÉ»",
    "Â, Ã and Å are letters; n° 5 costs £3",
    "Pão de açúcar, ÂNGELA, NÃO",
    "plain",
]
DAMAGED = [
    "réinitialiser",
    "Cliquez sur « Mot de passe oublié »",
    "Größe – „Spaß“",
    "Tiếng Việt",
    "你好，世界！",
    "it’s",
    "😀",
    "20 °C",
]


@pytest.fixture(autouse=True)
def own_disk(monkeypatch):
    """file:// as on the local cluster."""
    monkeypatch.setenv("FINETUNE_ALLOW_FILE", "1")


def damaged(text: str) -> str:
    """UTF-8 as Windows-1252 shows it; the five bytes that it lacks stand for themselves."""
    return "".join(bytes([b]).decode("cp1252", errors="ignore") or chr(b) for b in text.encode())


@pytest.mark.parametrize("text", HEALTHY)
def test_texts_as_they_were_written_are_not_taken_for_misread(text):
    """Accents, quotation marks and signs in the languages that use them."""
    assert misread(text) == ""


@pytest.mark.parametrize("text", DAMAGED)
@pytest.mark.parametrize("read_as", [damaged, lambda text: text.encode().decode("latin-1")], ids=["cp1252", "latin-1"])
def test_utf_8_that_was_read_as_something_else_is_told(text, read_as):
    """One damaged line among healthy ones is enough."""
    assert misread(f"L’été\n{read_as(text)}") != ""
    assert meant(read_as(text)) == text


def test_rows_that_were_saved_again_are_counted_with_an_example(tmp_path):
    """A file that was put together from two exports."""
    rows = [
        {"messages": said("Comment ?", damaged("Je réinitialise le mot de passe"))},
        {"messages": said(damaged("Où est-ce ?"), "Ici.")},
        {"messages": said("Quand ?", "Cet été.")},
        {"messages": said("Qui ?", "Andr\N{REPLACEMENT CHARACTER}")},
    ]

    assert prepared_rows(a_request(jsonl(tmp_path / "a.jsonl", rows)), tokenizer(), tmp_path / "work").warnings[:2] == (
        "2 of 4 rows (50.0 %) hold text that was read with the wrong encoding and saved again (rÃ©initialise for réinitialise, OÃ¹ for "
        "Où), first a.jsonl row 1: the model learns to write so. Export these rows again as UTF-8, or repair their texts with "
        "fix_encoding of the Python package ftfy",
        "1 of 4 rows (25.0 %) hold \N{REPLACEMENT CHARACTER}, which stands for a character that was lost, first a.jsonl row 4: the "
        "model learns to write it. Export these rows again with the right encoding, or remove them",
    )
