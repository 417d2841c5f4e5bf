"""Our operator beside Kubeflow's training-operator: the same burst and the same rate, one after the other, on one machine.

Run: `make bench-peers` (root on Linux: the other one's webhook listens on all addresses, so that everything runs in a
network namespace of its own). Each begins with a fresh control plane and a warm-up.
"""

import argparse
import os
import sys

from finetune_operator.local.binaries import CONTROL_PLANE, KWOK, TRAINING_OPERATOR
from finetune_operator.local.provide import provide

from tests.bench.scale.cluster import simulated_cluster
from tests.bench.scale.contenders import ours
from tests.bench.scale.measure import cold_start, load, steady
from tests.bench.scale.training_operator import TRAINING_OPERATOR_CONTENDER, source

WARM_UP = 100
INSIDE = "FINETUNE_BENCH_INSIDE"


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--per-second", type=float, default=10)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=WARM_UP)
    options = parser.parse_args()
    for contender in (TRAINING_OPERATOR_CONTENDER, ours()):
        with simulated_cluster() as cluster:
            contender.install(cluster)
            with contender.started(cluster) as operator:
                load(cluster, contender, operator.pid, options.warm_up)
                load(cluster, contender, operator.pid, options.jobs)
                steady(cluster, contender, operator.pid, options.per_second, options.seconds)
            cold_start(cluster, contender)


if __name__ == "__main__":
    if INSIDE not in os.environ:
        provide([*CONTROL_PLANE, KWOK, TRAINING_OPERATOR], say=print)  # inside there is no network
        source()
        shell = f'ip link set lo up && exec "{sys.executable}" -u -m tests.bench.peers "$@"'
        command = ["unshare", "--net", "sh", "-c", shell, "sh", *sys.argv[1:]]
        os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})  # a program of util-linux
    main()
