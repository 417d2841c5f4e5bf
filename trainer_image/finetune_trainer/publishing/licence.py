"""The licence of the base model, as its own model card says it: it holds for what is made of it. Called by artifacts and export."""

import json
import re
from collections.abc import Mapping

import yaml
from finetune_contract import Model

from finetune_trainer.errors import ReportedError
from finetune_trainer.storage import Role, open_location

KEYS = ("license", "license_name", "license_link")
"""The hub's. A licence without a short name is `other`, with its name and a link."""

FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*(\n|\Z)", re.DOTALL)
Licence = Mapping[str, str]


def base_licence(model: Model) -> Licence:
    """Return what the base model's card says, by the hub's keys; nothing where there is no card, or it says nothing."""
    try:
        text = open_location(model.location, Role.MODEL, revision=model.revision).read_text("README.md")
    except (ReportedError, UnicodeDecodeError):  # a card is worth no failure
        return {}
    return licence_in(text or "")


def licence_in(card: str) -> Licence:
    """Return the licence in the front matter of a card."""
    matter = FRONT_MATTER.match(card)
    try:
        found = yaml.safe_load(matter[1]) if matter else None
    except yaml.YAMLError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: _text(found[key]) for key in KEYS if found.get(key)}


def front_matter(licence: Licence) -> list[str]:
    """Return its lines for the front matter of a card."""
    return [f"{key}: {json.dumps(value)}" for key, value in licence.items()]


def in_words(licence: Licence) -> str:
    """Return it for a reader."""
    name = licence.get("license_name") or licence.get("license") or "its model card states none"
    link = licence.get("license_link", "")
    return f"[{name}]({link})" if link.startswith(("https://", "http://")) else name


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
