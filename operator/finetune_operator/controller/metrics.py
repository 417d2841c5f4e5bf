"""What Prometheus sees. Named after facts that an operator's owner asks for; no label grows with the number of jobs."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from finetune_operator import __version__

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that nobody reads
REGISTRY = CollectorRegistry()

JOBS = Gauge("finetune_jobs", "FineTuneJobs by phase.", ["phase"], registry=REGISTRY)
RECONCILES = Counter("finetune_job_reconcile", "Reconciliations by result.", ["result"], registry=REGISTRY)
RECONCILE_ERRORS = Counter(
    "finetune_job_reconcile_errors", "Failed reconciliations by error.", ["error"], registry=REGISTRY
)
RECONCILE_SECONDS = Histogram(
    "finetune_job_reconcile_duration_seconds", "Duration of a reconciliation.", registry=REGISTRY
)
QUEUE_DEPTH = Gauge("finetune_workqueue_depth", "Jobs waiting to be reconciled.", registry=REGISTRY)
QUEUE_ADDS = Counter("finetune_workqueue_adds", "Jobs added to the work queue.", registry=REGISTRY)
QUEUE_RETRIES = Counter("finetune_workqueue_retries", "Reconciliations retried after a failure.", registry=REGISTRY)
START_LATENCY = Histogram(
    "finetune_job_start_latency_seconds",
    "Time from the creation of a job until all its Pods run.",
    buckets=(1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400),
    registry=REGISTRY,
)
GPU_SECONDS = Counter("finetune_gpu_seconds", "GPU-seconds used by jobs.", ["namespace", "gpu"], registry=REGISTRY)
COST_USD = Counter("finetune_cost_usd", "Cost of jobs in US dollars.", ["namespace"], registry=REGISTRY)
ATTEMPTS = Counter("finetune_attempts_ended", "Ended attempts by outcome.", ["namespace", "outcome"], registry=REGISTRY)
ENDED = Counter("finetune_jobs_ended", "Ended jobs by reason.", ["namespace", "reason"], registry=REGISTRY)
LONGEST_WAIT = Gauge(
    "finetune_longest_wait_seconds",
    "Time since the attempt that has waited longest for its Pods to be scheduled was started; no sample if none waits.",
    ["namespace"],
    registry=REGISTRY,
)
NEAR_BUDGET = Gauge(
    "finetune_jobs_near_budget",
    "Jobs with an attempt in progress that have spent 90 % or more of their budget.",
    ["namespace"],
    registry=REGISTRY,
)
GPUS_RUNNING = Gauge(
    "finetune_gpus_running", "GPUs of jobs whose Pods are all scheduled.", ["namespace", "pool"], registry=REGISTRY
)
GPUS_WAITING = Gauge(
    "finetune_gpus_waiting",
    "GPUs of jobs that wait for their Pods or for their turn.",
    ["namespace"],
    registry=REGISTRY,
)
COST_RATE = Gauge(
    "finetune_cost_usd_per_hour", "Cost of the running jobs in US dollars per hour.", ["namespace"], registry=REGISTRY
)
MONTH_COST = Gauge(
    "finetune_policy_month_cost_usd",
    "Cost of all jobs of a namespace with a FineTunePolicy in this calendar month, in US dollars.",
    ["namespace"],
    registry=REGISTRY,
)
REQUESTS = Counter(
    "finetune_api_requests", "Requests to the API server.", ["verb", "resource", "code"], registry=REGISTRY
)
FAILED_WRITES = Counter(
    "finetune_failed_writes", "Writes for a job that the API server did not let through.", ["error"], registry=REGISTRY
)
LAST_EVENT = Gauge(
    "finetune_watch_last_event_timestamp_seconds",
    "Time of the last event of each watch, as a Unix timestamp.",
    ["kind"],
    registry=REGISTRY,
)
MISSED = Counter(
    "finetune_watch_missed", "Changes that the watch missed and a full comparison found.", ["kind"], registry=REGISTRY
)
NAMESPACES_SKIPPED = Gauge(
    "finetune_namespaces_skipped",
    "Configured namespaces that cannot be read and are skipped for now.",
    registry=REGISTRY,
)
RESTORES = Counter(
    "finetune_store_restored",
    "Times the API server was found restored to an earlier state.",
    ["kind"],
    registry=REGISTRY,
)
LEADER = Gauge("finetune_leader", "1 if this process is the leader.", registry=REGISTRY)
BUILD_INFO = Gauge("finetune_build_info", "Version of the operator.", ["version"], registry=REGISTRY)
BUILD_INFO.labels(__version__).set(1)


def exposition() -> bytes:
    """Return all metrics in Prometheus' text format."""
    return generate_latest(REGISTRY)
