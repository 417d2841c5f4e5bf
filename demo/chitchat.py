"""Real small talk between two people (chitchat-dataset, MIT), as alternating user and assistant messages."""

import json
import sys
from pathlib import Path

from demo.wheels import member

REQUIREMENT = "chitchat-dataset==0.9.0"
SHA256 = "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e"
MOST_TURNS = 8
"""Longer conversations are cut: the demo trains on short sequences."""


def chitchat(cache: Path, *, rows: int) -> Path:
    """Return a jsonl file below `cache` with the first `rows` conversations of at least four turns."""
    file = cache / f"chitchat-{rows}.jsonl"
    if not file.exists():
        raw = json.loads(
            member(REQUIREMENT, SHA256, "chitchat_dataset/dataset.json", cache / "chitchat.json").read_bytes()
        )
        chats = (messages(conversation) for conversation in raw.values())
        usable = [chat for chat in chats if len(chat) >= 4]
        file.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in usable[:rows]))
    return file


def messages(conversation: dict) -> list[dict[str, str]]:
    """Turn one conversation into messages that begin with the user and end with the assistant."""
    turns = [" ".join(utterance["text"] for utterance in turn).strip() for turn in conversation["messages"]]
    spoken = [turn for turn in turns if turn][:MOST_TURNS]
    even = spoken[: len(spoken) // 2 * 2]
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(even)]


if __name__ == "__main__":
    print(chitchat(Path(sys.argv[1]), rows=int(sys.argv[2])))
