"""Files of the base model that belong beside a whole model, which transformers does not write with it. Called by publish and export."""

import json
import shutil
from pathlib import Path

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

SENTENCEPIECE = "tokenizer.model"
"""The base model's own vocabulary: llama.cpp's converter wants it for Gemma and Phi-3."""

PREPROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
"""How pictures, films and sounds become tokens: without them no server loads a model that has towers."""

WITH_TOWERS = "ForConditionalGeneration"
"""How the classes are named that AutoModelForCausalLM loads with towers (Gemma 3 and 4). Those of other models leave them out, and what is
published is a text model."""

TEMPLATE = "chat_template"
"""The base model's template, in older preprocessors. The tokenizer has the one that was trained on."""


def keep_base_files(base: Path, folder: Path) -> None:
    """Put them beside the weights of a model that was made of the base, as far as the base has them."""
    if (vocabulary := base / SENTENCEPIECE).is_file():
        shutil.copyfile(vocabulary, folder / SENTENCEPIECE)
    for name in PREPROCESSORS if has_towers(base) else ():
        if (file := base / name).is_file():
            described = json.loads(file.read_text(encoding="utf-8"))
            described.pop(TEMPLATE, None)
            (folder / name).write_text(
                json.dumps(described, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
            )


def has_towers(base: Path) -> bool:
    """Tell whether a model is trained, and published, with what it sees and hears by."""
    kind = json.loads((base / "config.json").read_text(encoding="utf-8")).get("model_type", "")
    loaded = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind, "")
    return any(name.endswith(WITH_TOWERS) for name in ((loaded,) if isinstance(loaded, str) else loaded))
