"""What jobs cost our operator and the API server, on simulated nodes: a burst, a steady rate, a cold start.

Prints jobs per second, latencies, writes, CPU time and memory. Run: `python -m tests.bench.bench_operator
[--jobs 300] [--per-second 10 --seconds 30]`. On a shared machine only CPU time and writes are to be trusted: compare two
runs with `--source FOLDER`, the checkout whose operator and CRDs are measured.
"""

import argparse
from pathlib import Path

from tests.bench.scale.cluster import simulated_cluster
from tests.bench.scale.contenders import REPOSITORY, ours
from tests.bench.scale.measure import cold_start, described, gang, load, progress_reports, steady

WARM_UP = 40


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--per-second", type=float, default=4)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--source", type=Path, default=REPOSITORY)
    options = parser.parse_args()
    contender = ours(options.source.absolute())
    with simulated_cluster() as cluster:
        contender.install(cluster)
        with contender.started(cluster) as operator:
            load(cluster, contender, operator.pid, WARM_UP)
            gang(cluster)
            load(cluster, contender, operator.pid, options.jobs)
            if options.per_second:
                steady(cluster, contender, operator.pid, options.per_second, options.seconds)
            described(cluster)
        progress_reports(cluster)
        cold_start(cluster, contender)


if __name__ == "__main__":
    main()
