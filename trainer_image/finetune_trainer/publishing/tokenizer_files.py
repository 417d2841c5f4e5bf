"""The tokenizer of what is published, in words that transformers 4 reads as well. Called by train and export.

transformers 5 names its own classes, and lists special tokens under a key that transformers 4 takes for a mapping. Servers that stand on
transformers 4, such as TGI, then refuse the whole folder.
"""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

CONFIG = "tokenizer_config.json"
CLASSES = {"TokenizersBackend": "PreTrainedTokenizerFast"}
"""Their names in transformers 4; transformers 5 knows these, too."""

NAMED = "model_specific_special_tokens"
"""Where transformers 5 names tokens such as that of a picture; in transformers 4 it is the mapping extra_special_tokens, which 5 reads."""

OWN = ("backend", "is_local")
"""Keys of transformers 5 that say how a tokenizer was loaded, not what it is."""


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the tokenizer beside the weights."""
    tokenizer.save_pretrained(folder)
    path = folder / CONFIG
    described = in_older_words(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(described, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def in_older_words(described: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer_config.json that says the same to both."""
    kept = {key: value for key, value in described.items() if key not in OWN}
    name = kept.get("tokenizer_class")
    if name in CLASSES:
        kept["tokenizer_class"] = CLASSES[name]
    if isinstance(kept.get("extra_special_tokens"), list):
        kept["additional_special_tokens"] = kept.pop("extra_special_tokens")
    if isinstance(kept.get(NAMED), dict):
        kept["extra_special_tokens"] = kept.pop(NAMED)
    return kept
