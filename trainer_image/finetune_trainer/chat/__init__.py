"""Conversations become tokens, and a mask says which of them are learned.

Reading order: turns.py (the template and the ends of turns), conversation.py, spans.py (which characters are learned), encoding.py.
"""

from finetune_trainer.chat.encoding import Encoded, Encoder
from finetune_trainer.chat.turns import Turns, ready_tokenizer, stop_token_ids

__all__ = ["Encoded", "Encoder", "Turns", "ready_tokenizer", "stop_token_ids"]
