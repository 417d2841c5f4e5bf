"""`python -m finetune_trainer chat FILE`: ask a published result in the terminal, on a CPU. Started by `finetune chat`."""

import sys
from pathlib import Path
from typing import Any

import torch
from finetune_contract import ChatConfig
from finetune_contract.wire import loads
from transformers import AutoTokenizer

from finetune_trainer.chat.stops import published_stops
from finetune_trainer.errors import ReportedError
from finetune_trainer.exporting.merge import sixteen_bit, whole_model, with_adapter
from finetune_trainer.storage import fetch_model
from finetune_trainer.storage.secrecy import redacted

PROMPT = "> "


def main(file: str) -> int:
    """Answer lines of stdin until its end. Returns the exit code."""
    try:
        config = loads(ChatConfig, Path(file).read_text())
        talk(config, Asked(config))
    except ReportedError as error:
        print(redacted(error.message), file=sys.stderr)
        return 1
    return 0


class Asked:
    """The model, with its base where both are asked."""

    def __init__(self, config: ChatConfig) -> None:
        folder, self.config = Path(config.folder), config
        base: Path | None = None
        if config.kind == "adapter":
            base = fetch_model(config.model, Path(config.cache) / "base")
            whole = whole_model(base, config.model, sixteen_bit(base))
            self.model: Any = with_adapter(whole, folder, config.folder)
        else:
            self.model = whole_model(folder, config.model, sixteen_bit(folder))
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.stops = sorted(published_stops(folder, base).union([self.tokenizer.eos_token_id]))

    def answers(self, messages: list[dict[str, str]]) -> dict[str, str]:
        """Return the answer of the tuned model, and of its base where they are compared."""
        if not self.config.compare:
            return {"tuned": self.answer(messages)}
        with self.model.disable_adapter():
            base = self.answer(messages)
        return {"base": base, "tuned": self.answer(messages)}

    @torch.inference_mode()
    def answer(self, messages: list[dict[str, str]]) -> str:
        """Return the likeliest answer."""
        if self.tokenizer.chat_template:
            inputs = self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
        else:
            inputs = self.tokenizer(messages[-1]["content"], return_tensors="pt")
        made = self.model.generate(
            **inputs, max_new_tokens=self.config.max_new_tokens, do_sample=False, eos_token_id=self.stops
        )
        said = [token for token in made[0, inputs["input_ids"].shape[1] :].tolist() if token not in self.stops]
        return str(self.tokenizer.decode(said, skip_special_tokens=True)).strip()


def talk(config: ChatConfig, asked: Asked) -> None:
    """Go through a conversation. Where both models are asked, each question is one of its own: their pasts would differ."""
    terminal = sys.stdin.isatty()
    messages: list[dict[str, str]] = []
    while True:
        if terminal:
            print(PROMPT, end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if not line.strip():
            continue
        messages = [] if config.compare else messages
        messages.append({"role": "user", "content": line.strip()})
        found = asked.answers(messages)
        messages.append({"role": "assistant", "content": found["tuned"]})
        for name, text in found.items():
            print(f"{name}: {text}" if config.compare else text, flush=True)
