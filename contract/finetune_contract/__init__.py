"""The contract between operator and trainer: run configurations in; progress, outcomes and exit codes out.

The operator writes a PreflightConfig or a RunConfig into an annotation of the Pod; the Pod answers with Progress lines on
stdout, one Outcome in the termination message, and an exit code. Imports neither torch nor pydantic: both sides load it.
"""

from importlib import import_module

_NAMES = {
    "data": (
        "Columns", "Dataset", "Location",
    ),
    "measuring": (
        "ANSWER_TOKENS", "FURTHER", "GENERATING", "HELD_OUT_FRACTION", "HELD_OUT_ROWS", "JUDGE", "LABEL",
        "LM_EVAL", "SAMPLE_TOKENS", "TOOL_CALL", "Evaluation", "EvaluationResult", "Figure", "Judge", "LmEval", "Metric",
        "MetricResult", "Sample",
    ),
    "names": (
        "CLAIM_FILE", "COMPLETE_MARKER", "ENV_ALLOW_FILE", "ENV_CLAIMS", "ENV_CONFIG_MAPS", "ENV_DEVICE",
        "ENV_RUN_CONFIG", "ENV_SECRETS", "ENV_TERMINATION_LOG", "ENV_WORKSPACE", "JOURNAL_FOLDER",
        "MANIFEST_FILE", "PROGRESS_MARK", "SECRET_KEYS", "TERMINATION_MESSAGE_BYTES", "TRAINED", "ExitCode",
        "export_log_folder", "log_folder",
    ),
    "report": (
        "Artifact", "Outcome", "PreflightReport", "Progress", "outcome_text", "parse_outcome", "parse_progress",
        "progress_line", "shorten",
    ),
    "run": (
        "Chat", "ChatConfig", "Checkpointing", "CombineConfig", "CostSoFar", "ExportConfig", "Layout", "Lora", "Model",
        "PreflightConfig", "RunConfig", "Tracker", "Training", "WeightedAdapter",
    ),
    "words": (
        "harmless",
    ),
}  # fmt: skip
"""Where each name is. __init__.pyi says the same for type checkers."""

_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import what is asked for: a command line that reads one constant need not make every dataclass of a run."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value
