"""Data: what the rows are, which of them are learned, and in which form the trainer gets them.

Reading order: request.py (what was asked), files.py and records.py (files -> records), rows.py (records -> rows),
corpus.py (a data set), selection.py (duplicates, held-out rows, samples, mixture), measure.py (lengths), tokenised.py
and packing.py (rows on disk), prepare.py (all in order; preflight calls it), training.py (what the trainer gets).
"""

from finetune_trainer.data.request import DataRequest
from finetune_trainer.data.training import PreparedData, training_rows

__all__ = ["DataRequest", "PreparedData", "training_rows"]
