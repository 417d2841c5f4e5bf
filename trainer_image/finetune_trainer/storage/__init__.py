"""Everything outside the Pod: models, data, results and checkpoints at file://, pvc://, s3://, gs://, az:// and hf://;
without checkpoints at oci://; data at https://.

Reading order: addresses.py (what a URI may say), store.py (what a place can do), then folder.py, bucket.py, cloud.py, hub.py, oci.py
and web.py (the places), opening.py (URI -> place) and weights.py (which files of a model may be touched).
"""

from finetune_trainer.storage.opening import open_location
from finetune_trainer.storage.store import Role, Store, StoredFile
from finetune_trainer.storage.weights import fetch_adapter, fetch_model

__all__ = ["Role", "Store", "StoredFile", "fetch_adapter", "fetch_model", "open_location"]
