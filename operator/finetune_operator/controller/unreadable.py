"""Jobs that no pass can look at, told in an Event. Called by reconcile."""

import logging
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from finetune_operator.api.meta import Metadata
from finetune_operator.api.reasons import TerminalReason, WaitingReason
from finetune_operator.controller.events import Recorder
from finetune_operator.errors import FinetuneError, Forbidden
from finetune_operator.lifecycle.observation import Event

log = logging.getLogger(__name__)

Raw = dict[str, Any]


async def say_unreadable(recorder: Recorder, raw: Raw, error: ValidationError, now: datetime) -> None:
    """Tell about what the API server accepts and we cannot read: CRD and operator differ in version."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = (
        f"{where}: {first['msg']}. The CRDs and the operator have different versions: install the CRDs of this operator"
    )
    meta = Metadata.model_validate(raw["metadata"])
    log.error("job cannot be read", extra={"job": f"{meta.namespace}/{meta.name}", "error": message})
    await recorder.publish(meta, Event(type="Warning", reason=TerminalReason.INVALID_SPEC, message=message), now)


async def say_unplanned(recorder: Recorder, raw: Raw, error: FinetuneError, now: datetime) -> None:
    """Tell about a FineTunePlan that the API server does not let us read; one that does not answer is not about this job."""
    if isinstance(error, Forbidden):
        message = f"the FineTunePlan of this job cannot be read: {error}"
        event = Event(type="Warning", reason=WaitingReason.WRITE_FAILED, message=message)
        await recorder.publish(Metadata.model_validate(raw["metadata"]), event, now)
