"""The licence of the base model on the cards of what is made of it."""

from pathlib import Path

import pytest
from finetune_contract import Location, Model
from finetune_trainer.publishing.licence import base_licence, front_matter, in_words, licence_in

pytestmark = pytest.mark.usefixtures("local_files")


@pytest.mark.parametrize(
    ("matter", "lines", "words"),
    [
        ("license: apache-2.0", ['license: "apache-2.0"'], "apache-2.0"),
        (
            "license: other\nlicense_name: qwen-research\nlicense_link: https://huggingface.co/q/LICENSE",
            ['license: "other"', 'license_name: "qwen-research"', 'license_link: "https://huggingface.co/q/LICENSE"'],
            "[qwen-research](https://huggingface.co/q/LICENSE)",
        ),
        ("license: other\nlicense_name: own", ['license: "other"', 'license_name: "own"'], "own"),
        ("license: [mit, apache-2.0]", ['license: "mit, apache-2.0"'], "mit, apache-2.0"),
        ("tags: [text]", [], "its model card states none"),
        ("license: {", [], "its model card states none"),
        ("just words", [], "its model card states none"),
    ],
)  # fmt: skip
def test_a_licence_is_taken_over_by_the_hubs_own_keys(matter: str, lines: list[str], words: str) -> None:
    """With its name and link where it has no short one; nothing is made up where the card is silent or broken."""
    found = licence_in(f"---\n{matter}\n---\n# Model\n\nlicense: not-this-one\n")

    assert (front_matter(found), in_words(found)) == (lines, words)


def test_a_base_model_without_a_card_has_no_licence_to_tell(tmp_path: Path) -> None:
    """Neither a missing card nor a missing model is a reason to publish nothing."""
    (tmp_path / "base").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/README.md").write_text("---\nlicense: mit\n---\n")
    places = (tmp_path / name for name in ("base", "other", "gone"))

    assert [base_licence(Model(location=Location(uri=f"file://{place}"))) for place in places] == [
        {},
        {"license": "mit"},
        {},
    ]
