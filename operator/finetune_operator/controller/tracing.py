"""Sends what has ended of a job's way to an OpenTelemetry collector (OTLP over HTTP). Off without an address. Called by reconcile.

The trace of a job is named by its uid, so that any operator can add to it, also after a restart. Sending happens in a thread of
the library: a collector that is slow, wrong or gone costs spans, and nothing else.
"""

import logging
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from finetune_operator import __version__
from finetune_operator.api.reasons import Phase
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.errors import FinetuneError
from finetune_operator.lifecycle.spans import Span, spans

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger(__name__)

SEND_SECONDS = 5.0
"""Longest time for one try to send."""

FLUSH_MILLISECONDS = 1000
"""What is left is sent at the end for so long."""


@dataclass(slots=True)
class Tracing:
    """The traces of all jobs; does nothing without a provider."""

    provider: "TracerProvider | None" = None
    ids: "JobIds" = field(default_factory=lambda: JobIds())  # noqa: PLW0108 - defined below
    _publishing: dict[str, datetime] = field(default_factory=dict)
    """Job uid -> since when it publishes, as far as this process knows."""

    def tell(self, job: FineTuneJob, status: FineTuneJobStatus, now: datetime) -> None:
        """Send what ended with a new status. Never raises: a trace is not worth a job."""
        if self.provider is None:
            return
        uid = job.metadata.uid
        try:
            for each in spans(job, status, now, self._publishing.get(uid)):
                self._send(job, each)
        except Exception:
            log.exception("span could not be made", extra={"job": job.key})
        if status.phase == Phase.PUBLISHING:
            self._publishing.setdefault(uid, now)
        else:
            self._publishing.pop(uid, None)

    def _send(self, job: FineTuneJob, span: Span) -> None:
        from opentelemetry import trace  # noqa: PLC0415  # the extra otel

        assert self.provider is not None
        number = UUID(job.metadata.uid).int
        root = number & (2**64 - 1)
        self.ids.trace, self.ids.span = number, root if span.whole else secrets.randbits(64)
        parent = trace.SpanContext(number, root, is_remote=True, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))
        context = None if span.whole else trace.set_span_in_context(trace.NonRecordingSpan(parent))
        made = self.provider.get_tracer("finetune-operator", __version__).start_span(
            job.key if span.whole else span.name,
            context=context,
            start_time=nanoseconds(span.start),
            attributes={"k8s.namespace.name": job.metadata.namespace, "finetune.job": job.metadata.name}
            | {f"finetune.{name}": value for name, value in span.attributes.items()},
        )
        if span.failed:
            made.set_status(trace.Status(trace.StatusCode.ERROR, span.failed))
        made.end(nanoseconds(max(span.start, span.end)))

    def close(self) -> None:
        """Send what is left, for a second at most."""
        if self.provider is not None:
            self.provider.force_flush(FLUSH_MILLISECONDS)


@dataclass(slots=True)
class JobIds:
    """Gives out the ids that were set before: the library makes random ones otherwise."""

    trace: int = 0
    span: int = 0

    def generate_span_id(self) -> int:
        """Return the id of the next span."""
        return self.span

    def generate_trace_id(self) -> int:
        """Return the id of its trace."""
        return self.trace

    def is_trace_id_random(self) -> bool:
        """Return that it is a uid."""
        return False


def nanoseconds(moment: datetime) -> int:
    """Return a moment as OpenTelemetry counts it."""
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def tracing(endpoint: str) -> Tracing:
    """Return what sends traces to an address such as http://collector:4318; nothing is sent without one."""
    if not endpoint:
        return Tracing()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise FinetuneError(
            "--otlp-endpoint requires the packages of the extra otel: pip install 'finetune-operator[otel]'"
        ) from error
    ids = JobIds()
    resource = Resource.create({"service.name": "finetune-operator", "service.version": __version__})
    provider = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False)  # type: ignore[arg-type]
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=SEND_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider=provider, ids=ids)
