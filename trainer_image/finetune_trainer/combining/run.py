"""A job that merges adapters: combined, measured beside the base model, published as a trained adapter is. Called by export.

It is a run without steps: rows, metrics, record, card and manifest are those of training.
"""

from dataclasses import replace
from pathlib import Path

from finetune_contract import Outcome, RunConfig

from finetune_trainer.combining.combine import make
from finetune_trainer.publishing import artifacts
from finetune_trainer.runtime.heartbeat import Heartbeat
from finetune_trainer.runtime.interrupt import Interrupt
from finetune_trainer.runtime.progress import Reporter
from finetune_trainer.storage import Role, open_location
from finetune_trainer.training.bench import Bench
from finetune_trainer.training.callbacks import describe_precision
from finetune_trainer.training.train import conclude, measure, prepare


def merge(run: RunConfig, workspace: Path) -> Outcome:
    """Merge, measure and publish. Raises ReportedError with the first thing that is wrong."""
    if (done := artifacts.already_published(open_location(run.output, Role.OUTPUT), run.run_digest)) is not None:
        return done
    combine = run.combine
    assert combine is not None
    print(f"merging {len(combine.adapters)} adapters by {combine.method}", flush=True)
    made = make(combine, workspace / "adapters", workspace / "adapter")
    digests = {f"adapter {one['uri']}": str(one["digest"]) for one in made["combined"]}
    run = replace(run, provenance=run.provenance | digests)
    bench = bench_of(run, workspace)
    session = prepare(run, bench)
    describe_precision(session.loop)
    session.held_out.measure_base(session.loop.trainer.state)
    outcome = conclude(run, bench, session, measure(bench, session))
    return replace(outcome, message=f"merged {len(combine.adapters)} adapters by {combine.method}")


def bench_of(run: RunConfig, workspace: Path) -> Bench:
    """Return what a run has at hand where no entry process watches it and no step can be lost."""
    return Bench(
        workspace=workspace,
        device="cpu",
        reporter=Reporter(total_steps=run.training.max_steps),
        heartbeat=Heartbeat(workspace / "run", rank=0),
        interrupt=Interrupt(leave=lambda: None),
    )
