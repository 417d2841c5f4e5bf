"""llama.cpp in a process of its own: a model and prefixes on stdin, the likeliest next tokens of each on stdout. Started by gguf.

A process, because a crash of the engine must end as a sentence, and because it logs to stdout.
"""

import json
import os
import sys

NEXT = 20
"""Likeliest tokens that are told for each prefix."""


def main() -> int:
    """Answer one question; what the engine prints goes to stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import xllamacpp  # noqa: PLC0415 - after its stdout is set aside

    asked = json.load(sys.stdin)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = asked["model"]
    parameters.n_ctx, parameters.n_parallel = 512, 1
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.warmup = parameters.ui = False
    server = xllamacpp.Server(parameters)
    answers = [next_tokens(server, prefix) for prefix in asked["prefixes"]]
    print(json.dumps(answers), file=out, flush=True)
    out.close()
    os._exit(0)  # the engine's threads need not be waited for


def next_tokens(server: object, prefix: list[int]) -> list[tuple[int, float]]:
    """Return the likeliest tokens after a prefix with their log-probabilities; none where the engine tells none.

    It keeps back a token that is only a part of a character.
    """
    request = {"prompt": prefix, "max_tokens": 1, "logprobs": NEXT, "temperature": 0.0, "ignore_eos": True}
    answer = server.handle_completions(request)  # type: ignore[attr-defined]
    told = answer["choices"][0]["logprobs"]
    if not told:
        return []
    (first,) = told["content"]
    return [(one["id"], one["logprob"]) for one in first["top_logprobs"]]


if __name__ == "__main__":
    sys.exit(main())
