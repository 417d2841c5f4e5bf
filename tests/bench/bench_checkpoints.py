"""What saving costs the training: `python -m tests.bench.bench_checkpoints [PAIRS]`.

Pairs of real trainer containers on the same rows, one that saves as often as any plan does to an S3 server behind a slow link
and one that saves at its end only; the order changes from pair to pair. Both must reach the same loss, or nothing is printed.
Counted is the wall clock between the first and the last step, saves included. Server and link run on the same cores.
Target: the run that saves takes at most 5 % longer.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from finetune_contract import Location
from finetune_operator.planning.saving import SHORTEST_INTERVAL

from tests.servers.gate import gate
from tests.servers.versitygw import s3_server
from tests.trainer.running import container
from tests.trainer.tiny import a_run, conversations, tiny_model

PAIRS = 4
STEPS = 1000
BYTES_PER_SECOND = 2e6
"""A checkpoint of this model takes some seconds on such a link."""

SHAPE = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "max_position_embeddings": 256}
SETTINGS = {"max_steps": STEPS, "baseline": False, "prompts": (), "fraction": 0.0, "max_examples": 0}


def seconds(
    folder: Path, model: Path, rows: Path, bucket: str, interval: int, **environment: str
) -> tuple[float, int, float]:
    """Run once: seconds between first and last step, checkpoints that were complete by then, the last loss."""
    place = Location(uri=f"s3://{bucket}/{folder.name}")
    run = a_run(folder, model=model, data=rows, location=place, interval_seconds=interval, **SETTINGS)
    with container(run, folder, **environment) as pod:
        pod.wait_for(lambda report: report.phase == "training" and report.step >= 1)
        began = time.monotonic()
        pod.wait_for(lambda report: report.step == STEPS)
        took = time.monotonic() - began
        code, outcome = pod.wait()
        saved = {report.checkpoint_step for report in pod.progress() if report.checkpoint_step not in (None, STEPS)}
    assert code == 0, outcome.message
    assert outcome.final_loss is not None
    return took, len(saved), outcome.final_loss


def main(pairs: int) -> None:
    """Run the pairs and print the ratios."""
    ratios = []
    with tempfile.TemporaryDirectory() as scratch, s3_server(Path(scratch) / "s3") as server:
        base = Path(scratch)
        model = tiny_model(base / "model", "llama", **SHAPE)
        rows = conversations(base / "rows.jsonl", rows=600, longest=30)
        with gate(server.endpoint, bytes_per_second=BYTES_PER_SECOND) as slow:
            environment = server.environment | {"AWS_ENDPOINT_URL": slow.endpoint}
            for number in range(pairs):
                found = {}
                for interval in (0, SHORTEST_INTERVAL) if number % 2 else (SHORTEST_INTERVAL, 0):
                    folder = base / f"{number}-{interval}"
                    found[interval] = seconds(folder, model, rows, server.bucket, interval, **environment)
                (plain, _, its_loss), (saving, saved, loss) = found[0], found[SHORTEST_INTERVAL]
                assert loss == its_loss, "the two did not learn the same: the figures mean nothing"
                ratios.append(saving / plain)
                print(f"pair {number + 1}: {plain:.1f} s without, {saving:.1f} s with {saved} checkpoints", flush=True)
    spread = f"({min(ratios):.3f} .. {max(ratios):.3f}, {pairs} pairs)"
    print(f"time with / without checkpoints: median {statistics.median(ratios):.3f} {spread}, target <= 1.05")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)
