"""An operator that starts beside thousands of finished jobs: how long it takes, and how much memory.

Run: `python -m tests.bench.bench_cold_start [--jobs 1000 5000] [--source FOLDER]`. Each job has a training
Pod, the first thousand a preflight Pod too. Another checkout is measured with `--source`.
"""

import argparse
from pathlib import Path

from tests.bench.scale.cluster import simulated_cluster
from tests.bench.scale.contenders import REPOSITORY, ours
from tests.bench.scale.load import create
from tests.bench.scale.measure import cold_start
from tests.bench.scale.population import NAME, has_caught_up, populate
from tests.cluster.client import eventually

WITH_PREFLIGHT = 1000


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--source", type=Path, default=REPOSITORY)
    options = parser.parse_args()
    contender = ours(options.source.absolute())
    with simulated_cluster() as cluster:
        contender.install(cluster)
        with contender.started(cluster):
            create(cluster.client, contender.jobs, [contender.job(NAME.format(0))])
            path = f"{contender.jobs}/{NAME.format(0)}"
            eventually(lambda: contender.marks["finished"](cluster.client.get(path)), "the job has finished", 120)
        for number in options.jobs:
            populate(cluster, number - 1, preflight=number <= WITH_PREFLIGHT)
            eventually(lambda: has_caught_up(cluster), "the API server knows them", 600)
            cold_start(cluster, contender)


if __name__ == "__main__":
    main()
