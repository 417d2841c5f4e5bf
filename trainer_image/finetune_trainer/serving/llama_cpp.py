"""`python -m finetune_trainer serve FILE NAME PORT`: a GGUF with an OpenAI-compatible API on the loopback. For `finetune serve`."""

import os
import signal
import sys
import threading

HOST = "127.0.0.1"
CONTEXT = 4096


def main(file: str, name: str, port: str) -> int:
    """Serve until SIGINT or SIGTERM. Returns the exit code."""
    import xllamacpp  # noqa: PLC0415 - a library of 100 MB

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.model_alias = file, {name}
    parameters.n_ctx, parameters.n_parallel = CONTEXT, 1
    threads = max(1, len(os.sched_getaffinity(0)))
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.hostnames, parameters.port = [HOST], int(port)
    parameters.warmup = parameters.ui = False
    server = xllamacpp.Server(parameters)
    print(f"serving {name} at {server.listening_address}/v1; stop with Ctrl-C", file=sys.stderr, flush=True)
    ended.wait()
    return 0
