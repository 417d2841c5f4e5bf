"""A text fine-tune of a model that also sees pictures: every form of the whole model that is published still does."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetune_trainer.exporting.export import export
from finetune_trainer.publishing.base_files import has_towers
from peft import LoraConfig
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    SiglipVisionConfig,
)
from transformers.models.gemma3 import Gemma3TextConfig

from tests.trainer import test_export
from tests.trainer.running import IN_PROCESS
from tests.trainer.test_hand_over import asked, carried_out, contents
from tests.trainer.tiny import SHAPE, a_run, conversations, tiny_model, tiny_tokenizer

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]

TOKENS = {"image_token": "<img>", "boi_token": "<boi>", "eoi_token": "<eoi>"}
PREPROCESSOR = {
    "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "Gemma3ImageProcessor", "image_seq_length": 4, "image_std": [0.5, 0.5, 0.5],
    "processor_class": "Gemma3Processor", "resample": 2, "rescale_factor": 0.00392156862745098, "size": {"height": 28, "width": 28},
}  # fmt: skip
PROCESSOR = {"image_seq_length": 4, "processor_class": "Gemma3Processor"}
OLD_TEMPLATE = "a template that nobody has trained on"


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Gemma 3 in bfloat16 with the files that the hub has beside it."""
    folder = tmp_path_factory.mktemp("seeing")
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(TOKENS.values())})
    tokenizer.save_pretrained(folder)
    add(folder / "tokenizer_config.json", extra_special_tokens=TOKENS, processor_class="Gemma3Processor", **TOKENS)
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    config = Gemma3Config(
        text_config=Gemma3TextConfig(**SHAPE, head_dim=16, sliding_window=32).to_dict(), vision_config=vision.to_dict(),
        mm_tokens_per_image=4, image_token_id=tokenizer.convert_tokens_to_ids("<img>"), pad_token_id=0, eos_token_id=4,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config).to(torch.bfloat16)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = [4], 0
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    (folder / "processor_config.json").write_text(json.dumps({**PROCESSOR, "chat_template": OLD_TEMPLATE}))
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": OLD_TEMPLATE}))
    return folder


def add(file: Path, **described: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | described))


def assert_sees(folder: Path, base: Path) -> None:
    """A processor loads as servers load it, and the model computes the same picture tokens as its base, whose tower was not trained."""
    assert json.loads((folder / "preprocessor_config.json").read_text()) == PREPROCESSOR
    assert json.loads((folder / "processor_config.json").read_text()) == PROCESSOR
    assert not (folder / "chat_template.json").exists()
    named = json.loads((folder / "tokenizer_config.json").read_text())
    assert (named["extra_special_tokens"], "model_specific_special_tokens" in named) == (TOKENS, False)
    processor, before = (AutoProcessor.from_pretrained(each, local_files_only=True) for each in (folder, base))
    assert processor.chat_template == processor.tokenizer.chat_template != OLD_TEMPLATE
    picture = Image.fromarray(np.arange(28 * 28 * 3, dtype=np.uint8).reshape(28, 28, 3))
    inputs, same = (each(images=picture, text="<boi> red cat", return_tensors="pt") for each in (processor, before))
    assert {name: value.tolist() for name, value in inputs.items()} == {
        name: value.tolist() for name, value in same.items()
    }
    models = [AutoModelForImageTextToText.from_pretrained(each, dtype=torch.float32) for each in (folder, base)]
    pictures = [model.get_image_features(inputs["pixel_values"]).pooler_output for model in models]
    assert torch.equal(*pictures)
    answers = [model(**inputs).logits for model in models]
    assert answers[0].isfinite().all()
    assert not torch.equal(*answers)


def test_a_full_fine_tune_keeps_seeing(tmp_path: Path, seeing: Path) -> None:
    """Published by the attempt, and by the Pod that it is left to: the same files, bit for bit."""
    data = conversations(tmp_path / "train.jsonl", rows=60)
    here = a_run(tmp_path / "here", model=seeing, data=data, method="full")
    handed = replace(a_run(tmp_path / "handed", model=seeing, data=data, method="full"), hand_over=True)
    carried_out(here, tmp_path / "here")
    assert carried_out(handed, tmp_path / "handed").reason == "Trained"
    export(asked(handed), tmp_path / "pod")

    assert contents(tmp_path / "handed/out/model") == contents(tmp_path / "here/out/model")
    assert_sees(tmp_path / "here/out/model", seeing)


def test_a_merged_model_keeps_seeing(tmp_path: Path, seeing: Path) -> None:
    """The adapter itself is loaded beside its base, which has the files."""
    targets = r".*language_model.*\.(q|k|v|o)_proj"
    run = test_export.published(tmp_path, seeing, LoraConfig(**{**test_export.LORA, "target_modules": targets}))
    export(test_export.asked(run, "merged"), tmp_path / "workspace")

    assert_sees(tmp_path / "out/merged", seeing)


def test_a_text_model_gets_no_preprocessor(tmp_path: Path) -> None:
    """A base whose files are left from a model with towers: what is published has none, and would be refused with them."""
    base = tiny_model(tmp_path / "base", "gemma3")
    (base / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    data = conversations(tmp_path / "train.jsonl", rows=60)
    carried_out(a_run(tmp_path / "here", model=base, data=data, method="full"), tmp_path / "here")

    assert not (tmp_path / "here/out/model/preprocessor_config.json").exists()


@pytest.mark.parametrize(
    ("kind", "towers"),
    [
        ("gemma3", True),
        ("gemma4", True),
        ("gemma3_text", False),
        ("qwen3_5", False),
        ("llama4", False),
        ("llama", False),
    ],
)
def test_towers_are_published_where_they_are_loaded(tmp_path: Path, kind: str, towers: bool) -> None:
    """transformers loads the text decoder of some models alone: that is what is trained and published."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "vision_config": {}}))

    assert has_towers(tmp_path) == towers
