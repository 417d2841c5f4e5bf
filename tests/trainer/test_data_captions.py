"""Pictures, sounds and films with a text for each: refused, with the way to learn the texts alone."""

import pytest
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, rows_of, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

FOLDERS = [
    ("an imagefolder", "file_name", "{}.png", "text", {}),
    ("an audiofolder", "file_name", "train/{}.wav", "transcription", {}),
    ("a videofolder with classes", "file_name", "{}.mp4", "caption", {"label": "red"}),
    ("Common Voice", "path", "clip_{}.mp3", "sentence", {"age": "twenties", "accent": "red"}),
    ("Flickr8k", "image", "{}.jpg", "caption", {}),
]


@pytest.mark.parametrize(("kind", "column", "name", "text", "more"), FOLDERS, ids=[kind for kind, *_ in FOLDERS])
def test_texts_about_pictures_sounds_and_films_are_refused(tmp_path, kind, column, name, text, more):
    """The remedy learns the texts, and nothing else."""
    rows = [{column: name.format(number), text: f"hello {number}", **more} for number in range(3)]
    file = jsonl(tmp_path / "metadata.jsonl", rows)
    followed = (Dataset(location=at(file), columns=Columns(text=text)),)

    assert refusal_of(tmp_path, file) == (
        "DatasetInvalid",
        f"file:///metadata.jsonl (3 rows) holds pictures, sounds or films with a text for each (column {column} in 3 of 3 rows), but a "
        f"language model learns from text alone. To learn the texts in {text} by themselves, as plain text, set columns: {{text: {text}}}",
    )
    assert [learned for _, learned in rows_of(tmp_path, datasets=followed)] == [
        f"hello {number}<|im_end|>" for number in range(3)
    ]


def test_a_folder_of_pictures_is_refused_with_the_rows_of_its_metadata(tmp_path):
    """Once the texts are asked for, the warning does not say that pictures could be converted to rows."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"\x89PNG")
    jsonl(folder / "metadata.jsonl", [{"file_name": f"{number}.png", "text": f"hello {number}"} for number in range(2)])
    followed = (Dataset(location=at(folder), columns=Columns(text="text")),)

    assert "(column file_name in 2 of 2 rows)" in refusal_of(tmp_path, folder)[1]
    assert prepared_rows(a_request(datasets=followed), tokenizer(), tmp_path / "work").warnings == (
        f"file://{folder}: 1 file is not read (0.png): only text is trained",
    )


def test_pictures_of_which_nothing_is_said_are_refused_without_a_column_to_name(tmp_path):
    """Donut keeps what is to be read from a receipt as JSON."""
    file = jsonl(tmp_path / "a.jsonl", [{"file_name": "a.jpg", "ground_truth": '{"gt_parse": {"total": 3}}'}])

    assert refusal_of(tmp_path, file)[1] == (
        "file:///a.jsonl holds pictures, sounds or films with a text for each (column file_name in 1 of 1 rows), but a language model "
        "learns from text alone: write questions with their answers as text, which need nothing else to be understood"
    )


def test_a_translation_beside_a_sound_is_text_to_text(tmp_path):
    """CoVoST: both sides are there without the sound."""
    row = {"file": "a.mp3", "sentence": "how", "translation": "fine"}

    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [row]))[1].endswith(
        "such as columns: {prompt: sentence, completion: translation}"
    )
