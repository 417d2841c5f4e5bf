"""Scenario files: strict reading, one error per line that names the field."""

import json
from pathlib import Path
from typing import Any

import pytest
from finetune_operator.cli.vram import answers
from finetune_operator.planning.memory import scenario_lines as scenarios
from finetune_operator.planning.memory.scenario_lines import ScenarioInvalid, scenario_of

SCHEMA = json.loads((Path(scenarios.__file__).parents[1] / "data/scenario.schema.json").read_text())


def a_model(**overrides: Any) -> dict[str, Any]:
    """Give Llama-3.1-8B."""
    return {
        "parameters": 8_030_261_248, "hiddenSize": 4096, "layers": 32, "attentionHeads": 32, "keyValueHeads": 8,
        "headDim": 128, "intermediateSize": 14336, "vocabSize": 128256, "gatedMlp": True, "tiedEmbeddings": False,
        **overrides,
    }  # fmt: skip


def a_scenario(**overrides: Any) -> dict[str, Any]:
    """Give LoRA on Llama-3.1-8B on one GPU."""
    return {
        "id": "case-1", "model": a_model(), "method": "lora", "quantization": "none", "loraRank": 16,
        "loraTargets": ["q", "k", "v", "o", "gate", "up", "down"], "trainsEmbeddings": False, "adapterDtype": "float32",
        "weightsDtype": "bfloat16", "sequenceLength": 2048, "microBatchSize": 1, "batching": "packed",
        "activationCheckpointing": True, "activationOffload": False, "parameterOffload": False,
        "residualFloat32": False, "optimizer": "adamw-fused", "optimizerInBackward": False, "sharding": "none",
        "numGpus": 1, "lossKernel": "tiled", "attention": "flash", "torchCompile": False, **overrides,
    }  # fmt: skip


def one_answer(scenario: dict[str, Any] | str) -> dict[str, Any]:
    """Answer one line as `finetune vram` prints it."""
    line = scenario if isinstance(scenario, str) else json.dumps(scenario)
    (found,) = answers([line.encode()], explain=False)
    return found


def test_a_scenario_is_answered_with_four_sizes():
    """Simulated: 16.59 GiB allocated (fake tensors, the real classes)."""
    found = one_answer(a_scenario())

    assert list(found) == ["id", "allocatedGiB", "reservedGiB", "cardGiB", "requestGiB"]
    assert found["id"] == "case-1"
    assert found["allocatedGiB"] == pytest.approx(16.59, rel=0.02)
    assert found["allocatedGiB"] < found["reservedGiB"] < found["cardGiB"] < found["requestGiB"]


def test_the_reader_knows_exactly_the_fields_of_the_schema():
    """A field that the schema gains is not ignored by accident."""
    assert set(SCHEMA["properties"]) == scenarios.KNOWN
    assert set(SCHEMA["required"]) == set(scenarios.REQUIRED)
    for field, words in scenarios.WORDS.items():
        assert set(SCHEMA["properties"][field]["enum"]) == set(words)
    model = SCHEMA["properties"]["model"]["properties"]
    known = {
        *scenarios.MODEL_COUNTS,
        *scenarios.MODEL_OPTIONAL,
        "name",
        "gatedMlp",
        "tiedEmbeddings",
        "separateHeadCopy",
    }
    assert set(model) == known


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"colour": "blue"}, "unknown field colour"),
        ({"attention": "flush"}, "attention must be one of flash, sdpa-mask, eager, not 'flush'"),
        ({"numGpus": "two"}, "numGpus must be a whole number of at least 1, not 'two'"),
        ({"torchCompile": "no"}, "torchCompile must be true or false, not 'no'"),
        ({"loraTargets": ["q", "x"]}, "loraTargets must be among q, k, v, o, gate, up, down, lm_head, qkv, not 'x'"),
        ({"loraRank": None}, "method lora needs loraRank and loraTargets"),
        ({"adapterDtype": "float16"}, "adapterDtype must be float32, bfloat16 or null, not 'float16'"),
        ({"gradientAccumulation": 0}, "gradientAccumulation must be a whole number of at least 1, not 0"),
        ({"measuredGiB": "17"}, "measuredGiB must be a number, not '17'"),
        ({"model": {"parameters": 1}}, "field model.hiddenSize is missing"),
        ({"numGpus": 8.5}, "numGpus must be a whole number of at least 1, not 8.5"),
        ({"sequenceLength": 10**16}, "sequenceLength must be at most 1e+15, not 10000000000000000"),
        ({"model": a_model(layers=0)}, "model.layers must be a whole number of at least 1, not 0"),
        (
            {"model": a_model(parameters=8)},
            "model.parameters 8 leaves nothing for layers besides vocabSize x hiddenSize = 525336576",
        ),
    ],
)
def test_what_is_wrong_is_named(overrides, message):
    """The answer to such a line is its id and one sentence."""
    assert one_answer(a_scenario(**overrides)) == {"id": "case-1", "error": message}


def test_a_missing_field_is_named():
    """Nothing that the schema requires has a default."""
    scenario = a_scenario()
    del scenario["lossKernel"]

    assert one_answer(scenario) == {"id": "case-1", "error": "field lossKernel is missing"}


def test_a_line_that_is_not_json_is_told_by_its_number():
    """The other lines are answered all the same."""
    found = list(answers([b"", b"{", json.dumps(a_scenario()).encode()], explain=False))

    assert [one["id"] for one in found] == ["line 2", "case-1"]
    assert found[0]["error"].startswith("not JSON: ")


def test_a_whole_number_may_be_written_with_a_point():
    """JSON Schema counts 16.0 among the integers."""
    assert one_answer(a_scenario(loraRank=16.0, numGpus=1.0)) == one_answer(a_scenario())


def test_a_line_that_is_nested_without_end_is_an_error_of_that_line():
    """Python's parser gives up on it with something else than a ValueError."""
    assert one_answer("[" * 100_000) == {"id": "line 1", "error": "nested too deeply to be a scenario"}


def test_every_word_of_the_schema_is_answered():
    """No value of an enumeration crashes, and each changes the question only as it should."""
    for field, words in scenarios.WORDS.items():
        for word in words:
            assert "error" not in one_answer(a_scenario(**{field: word})), (field, word)


def test_explained_terms_add_up_to_the_card():
    """The sum is a value that explains itself."""
    line = json.dumps(a_scenario(numGpus=8, sharding="zero3", lossKernel="stock"))
    (found,) = answers([line.encode()], explain=True)

    assert sum(found["terms"].values()) == pytest.approx(found["cardGiB"], abs=0.01)
    assert found["margin"] * found["cardGiB"] == pytest.approx(found["requestGiB"], abs=0.01)


def test_experts_are_quantised_where_the_framework_quantised_them():
    """Before transformers 5 experts were linear layers, which bitsandbytes quantises; since then they are stacked."""
    mixtral = {
        "parameters": 46_702_792_704, "hiddenSize": 4096, "layers": 32, "attentionHeads": 32, "keyValueHeads": 8,
        "headDim": 128, "intermediateSize": 14336, "vocabSize": 32000, "gatedMlp": True, "tiedEmbeddings": False,
        "experts": 8, "expertsPerToken": 2,
    }  # fmt: skip
    run = {"model": mixtral, "method": "qlora", "quantization": "nf4", "loraTargets": ["q", "v"]}

    old, new = one_answer(a_scenario(**run, lossKernel="stock")), one_answer(a_scenario(**run))
    asked = one_answer(a_scenario(**run, quantizedExperts=True))

    assert old["allocatedGiB"] < 30
    assert new["allocatedGiB"] > 85
    assert asked["allocatedGiB"] < 30


def test_scenario_of_raises_for_callers_in_python():
    """The command line catches it line by line."""
    with pytest.raises(ScenarioInvalid, match=r"^a line must be a JSON object$"):
        scenario_of("[]")
