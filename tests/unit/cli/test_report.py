"""`finetune report`: one file that holds everything, asks for nothing, and obeys nothing that a model has written."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.curves import Curves
from finetune_operator.cli.report_page import Report, report_page
from finetune_operator.cli.report_usage import usage

from tests.unit.planning.test_planner import planned
from tests.unit.smallest_spec import SMALLEST_SPEC

BORN, NOW = "2026-11-23T10:00:00Z", datetime(2026, 11, 24, tzinfo=UTC)
CURVES = Curves(loss=((1.0, 3.0), (2.0, 2.0)), held_out=((2.0, 2.2),), learning_rate=((1.0, 1e-4), (2.0, 5e-5)))

FOUND = {
    "modelRevision": "c" * 40, "modelBytes": 1, "datasetDigest": f"sha256:{'d' * 64}", "examples": 1000, "evaluationExamples": 50,
    "tokens": 700_000, "trainedTokens": 350_000, "tokensP50": 700, "tokensP99": 1100, "tokensMax": 1200, "lengthStep": 500,
    "rowsByLength": [100, 600, 300], "truncatedRows": 10, "truncatedPercent": "1.0", "droppedRows": 0, "maskedRows": 0,
    "duplicates": 0, "sampled": False, "sequenceLength": 1024, "packedRows": 700,
}  # fmt: skip


def a_job(**status: Any) -> FineTuneJob:
    metadata = {"name": "tiny", "namespace": "team-a", "uid": "u", "generation": 1, "creationTimestamp": BORN}
    return FineTuneJob.model_validate({"metadata": metadata, "spec": SMALLEST_SPEC, "status": status})


def finished() -> FineTuneJob:
    """A job of two attempts, with everything that a status can hold."""
    run = planned("8b")
    return a_job(
        phase="Succeeded",
        plan=run.plan.model_dump(),
        resolved=run.resolved.model_dump(),
        progress={"step": 20, "totalSteps": 20, "percent": 100, "loss": "1.25", "lastReportTime": BORN, "tokensPerSecond": "9500"},
        memory={"predictedGiB": "44.26", "measuredGiB": "43.00"},
        attempts=[
            {"number": 0, "startTime": BORN, "outcome": "Preempted", "gpuSeconds": 100, "costUSD": "0.10", "message": "the node <left>"},
            {"number": 1, "startTime": BORN, "outcome": "Succeeded", "gpuSeconds": 900, "costUSD": "0.90", "firstStep": 8, "lastStep": 20},
        ],
        cost={"costUSD": "1.00", "wastedUSD": "0.10"},
        evaluation={
            "examples": 40, "baseLoss": "2.0", "tunedLoss": "1.0", "relativeImprovement": "0.5",
            "metrics": [
                {
                    "name": "exact-match", "examples": 40, "base": "0.10", "baseLow": "0.05", "baseHigh": "0.20", "tuned": "0.80",
                    "tunedLow": "0.70", "tunedHigh": "0.90", "difference": "0.70", "differenceLow": "0.55", "differenceHigh": "0.80",
                    "verdict": "better",
                }
            ],
            "samples": [{"prompt": "Hi?", "base": "<script>alert(1)</script>", "tuned": "Hello & welcome"}],
        },
        adapterURI="s3://team-a/out/adapter",
        artifacts=[
            {"kind": "adapter", "uri": "s3://team-a/out/adapter", "digest": f"sha256:{'a' * 64}", "sizeBytes": 1024, "loraRank": 32}
        ],
        runDigest=f"sha256:{'b' * 64}",
    )  # fmt: skip


class Reader(HTMLParser):
    """The headings of a page, its elements, and whether each that was opened was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "line", "rect", "polyline", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "rect", "polyline", "circle"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_a_finished_job_has_every_section():
    """In the order in which people ask."""
    page = report_page(Report(job=finished(), curves=CURVES, written=NOW))

    assert read(page).headings == [
        "team-a/tiny", "Loss", "Planned and actual", "Attempts", "Metrics", "Answers", "Use it", "Provenance",
    ]  # fmt: skip
    assert "50 % better on 40 held-out rows: loss 2.0 before, 1.0 after" in page
    assert '<td>memory per GPU, GiB</td><td class="n">44.26</td><td class="n">43.00</td><td class="n">0.97</td>' in page
    assert (
        '<td>1</td><td>Preempted</td><td>0 to 0</td><td class="n">100</td><td class="n">0.10</td><td>the node &lt;left&gt;</td>'
        in page
    )
    assert "<td>0.80 (0.70 to 0.90)</td><td>0.70 (0.55 to 0.80)</td><td>better</td>" in page


def test_the_rows_by_length_are_drawn_as_preflight_counted_them():
    """Each bar with its figures, the sequence length among them, and a sentence for those who do not see it."""
    page = report_page(Report(job=a_job(preflight=FOUND), curves=CURVES, written=NOW))

    assert read(page).headings == ["team-a/tiny", "Loss", "Data", "Provenance"]
    assert "<title>0 to 499 tokens: 100 rows</title>" in page
    assert "<title>1,000 to 1,200 tokens: 300 rows</title>" in page
    assert 'aria-label="rows by length: the most, 60 %, have 500 to 999 tokens; the longest has 1,200"' in page
    assert ">sequence length 1,024</text>" in page


def test_a_preflight_that_counted_no_lengths_has_no_histogram():
    """It was made by an older image."""
    older = {key: value for key, value in FOUND.items() if key not in ("lengthStep", "rowsByLength")}

    assert "Rows by length" not in report_page(Report(job=a_job(preflight=older), curves=CURVES, written=NOW))


def test_a_job_that_nobody_looked_at_has_a_page_too():
    """What is not known is left out."""
    page = report_page(Report(job=a_job(), curves=Curves(missing="its log is gone"), written=NOW))

    assert read(page).headings == ["team-a/tiny", "Loss", "Provenance"]
    assert "its log is gone" in page


def test_the_page_asks_for_nothing_and_obeys_nothing():
    """It is read offline; what a model wrote is text, and a policy says so again."""
    page = report_page(Report(job=finished(), curves=CURVES, written=NOW))

    assert "script" not in read(page).seen
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert re.findall(r"""(?:src|href|url)\s*[=(]""", page) == []
    assert "Content-Security-Policy\" content=\"default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page


def test_the_result_is_used_from_where_it_is():
    """The commands hold the job's own addresses; vLLM is told of a rank above its limit."""
    assert usage(finished()) == [
        ("Fetch it from the bucket", "aws s3 sync s3://team-a/out/adapter ./adapter"),
        ("Serve it with vLLM", "vllm serve org/model --enable-lora --max-lora-rank 32 --lora-modules tiny=./adapter"),
        (
            "Load it in Python",
            "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer\n\n"
            'model = AutoPeftModelForCausalLM.from_pretrained("./adapter")\ntokenizer = AutoTokenizer.from_pretrained("./adapter")',
        ),
    ]
    assert usage(a_job()) == []
    uri = "oci://registry.example/team/bot@sha256:1"
    assert usage(a_job(phase="Succeeded", adapterURI=uri))[0] == (
        "Fetch it from the registry", "oras pull registry.example/team/bot@sha256:1 --output ./adapter"
    )  # fmt: skip


def test_vllm_is_told_where_answers_end():
    """An adapter of a base model that does not stop there brings its own generation_config.json."""
    job = finished()
    (adapter,) = job.status.artifacts
    own = adapter.model_copy(update={"servable": "vllm (--max-lora-rank 32, --generation-config FOLDER); not tgi"})
    job = job.model_copy(update={"status": job.status.model_copy(update={"artifacts": [own]})})

    assert usage(job)[1] == (
        "Serve it with vLLM",
        "vllm serve org/model --enable-lora --max-lora-rank 32 --lora-modules tiny=./adapter --generation-config ./adapter",
    )


def with_artifacts(*kinds: str) -> FineTuneJob:
    """A job whose adapter vLLM does not load, and what it has published."""
    artifacts = [
        {
            "kind": kind, "uri": f"s3://team-a/out/{kind}", "digest": f"sha256:{'a' * 64}", "sizeBytes": 1024,
            **({"servable": "llama.cpp; not vllm (DoRA)"} if kind == "adapter" else {"checked": "agrees with the adapter"}),
        }
        for kind in kinds
    ]  # fmt: skip
    gate = {
        "type": "Promoted",
        "status": "False",
        "reason": "GateFailed",
        "message": "loss 1 % better",
        "lastTransitionTime": BORN,
    }
    return a_job(phase="Succeeded", adapterURI="s3://team-a/out/adapter", artifacts=artifacts, conditions=[gate])


def test_no_server_is_named_that_refuses_the_result():
    """An adapter that vLLM does not load is served merged; where it is not, the page says how it can be."""
    assert usage(with_artifacts("adapter", "merged"))[1:3] == [
        ("Fetch it from the bucket", "aws s3 sync s3://team-a/out/merged ./merged"),
        ("Serve it with vLLM", "vllm serve ./merged --served-model-name tiny"),
    ]
    assert usage(with_artifacts("adapter"))[1] == (
        "vLLM does not load this adapter. Add merged to the job, delete it and apply it again: nothing is trained again",
        "output: {exports: [merged]}",
    )


def test_the_gate_and_the_forms_of_the_result_are_on_the_page():
    """What was asked, what was measured, and what each form was compared with."""
    page = report_page(Report(job=with_artifacts("adapter", "merged"), curves=CURVES, written=NOW))

    assert "<p>Gate not passed: loss 1 % better</p>" in page
    assert f"sha256:{'a' * 64}, 1,024 bytes. agrees with the adapter" in page


def test_a_merged_adapter_has_a_page_of_its_own_kind():
    """What was merged stands where others have their loss: no step was made, and no row trained."""
    adapters = [{"source": "s3://team-a/north", "weight": "300"}, {"source": "s3://team-a/south", "weight": "100"}]
    spec = {**SMALLEST_SPEC, "mergeOf": {"method": "ties", "adapters": adapters}}
    export = {"memoryGiB": 4, "ephemeralGiB": 11, "cpus": 4, "image": "trainer:1"}
    metadata = {"name": "both", "namespace": "team-a", "uid": "u", "generation": 1, "creationTimestamp": BORN}
    status = {"phase": "Succeeded", "preflight": FOUND, "export": export}
    job = FineTuneJob.model_validate({"metadata": metadata, "spec": spec, "status": status})
    page = report_page(Report(job=job, curves=Curves(), written=NOW))

    assert read(page).headings == ["team-a/both", "Merged", "Data", "Provenance"]
    assert "<p>merges 2 adapters by ties</p>" in page
    assert '<tr><td>s3://team-a/north</td><td class="n">300</td></tr>' in page
    assert "50 rows held out; the other 1,000 are not used" in page
    assert "<tr><td>trainer image</td><td>trainer:1</td></tr>" in page
    assert "training row" not in page
