"""Conversations become tokens, and a mask says which of them are learned.

Reading order: turns.py (the template), stops.py (the ends of answers), conversation.py, spans.py (which characters are learned),
encoding.py.
"""

from finetune_trainer.chat.encoding import Encoded, Encoder
from finetune_trainer.chat.turns import Turns, ready_tokenizer

__all__ = ["Encoded", "Encoder", "Turns", "ready_tokenizer"]
