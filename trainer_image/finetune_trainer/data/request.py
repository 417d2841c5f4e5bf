"""What was asked of the data: the same for preflight and trainer, so that both prepare the same rows."""

from dataclasses import dataclass

from finetune_contract import Chat, Dataset, Evaluation, PreflightConfig, RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRequest:
    """Everything that the prepared rows depend on, except the tokenizer."""

    datasets: tuple[Dataset, ...]
    chat: Chat
    objective: str
    sequence_length: int
    """0: cover 99 % of the rows."""
    length_limit: int
    """Positions of the model."""
    over_length: str
    seed: int
    evaluation: Evaluation


def preflight_request(config: PreflightConfig, length_limit: int) -> DataRequest:
    """Return what a preflight Pod prepares."""
    return DataRequest(
        datasets=config.datasets,
        chat=config.chat,
        objective=config.objective,
        sequence_length=config.sequence_length,
        length_limit=length_limit,
        over_length=config.over_length,
        seed=config.seed,
        evaluation=config.evaluation,
    )


def run_request(run: RunConfig) -> DataRequest:
    """Return what a trainer Pod prepares when preflight had no storage to share."""
    return DataRequest(
        datasets=run.datasets,
        chat=run.chat,
        objective=run.objective,
        sequence_length=run.training.sequence_length,
        length_limit=run.training.sequence_length,
        over_length=run.training.over_length,
        seed=run.training.seed,
        evaluation=run.evaluation,
    )
