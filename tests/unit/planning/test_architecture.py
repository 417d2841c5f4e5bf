"""Architectures from config.json without torch: published totals, both forms of a config, refusals."""

import re

import pytest
from finetune_operator.errors import JobError
from finetune_operator.planning.models.adapter import Adapter, adapter_parameters
from finetune_operator.planning.models.architecture import architecture, linears
from finetune_operator.planning.models.catalogue import catalogue_entry, model_named, models

PUBLISHED = {
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "mistralai/Mixtral-8x22B-v0.1": 140_630_071_296,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "google/gemma-2-9b": 9_241_705_984,
    "microsoft/phi-2": 2_779_683_840,
    "microsoft/phi-4": 14_659_507_200,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "openai/gpt-oss-20b": 20_914_757_184,
    "tiiuae/falcon-7b": 6_921_720_704,
    "bigcode/starcoder2-7b": 7_173_923_840,
    "tiiuae/Falcon3-7B-Base": 7_455_550_464,
    "01-ai/Yi-6B": 6_061_035_520,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "codellama/CodeLlama-7b-hf": 6_738_546_688,
    "google/gemma-3-270m": 268_098_176,
    "CohereLabs/c4ai-command-r7b-12-2024": 8_028_033_024,
    "01-ai/Yi-1.5-34B": 34_388_917_248,
    "deepseek-ai/deepseek-llm-7b-base": 6_910_365_696,
    "zai-org/glm-4-9b-chat-hf": 9_399_951_360,
    "tiiuae/falcon-40b": 41_303_293_952,
    "stabilityai/stablelm-3b-4e1t": 2_795_443_200,
    "EleutherAI/pythia-12b": 11_846_072_320,
    "allenai/OLMo-7B-hf": 6_888_095_744,
    "BSC-LT/salamandra-7b": 7_768_117_248,
    "Qwen/Qwen1.5-110B": 111_209_914_368,
    # The hub's figure less SigLIP's tower (416,866,032) and its projector (1152 x width + 1152).
    "google/gemma-3-4b-pt": 4_300_079_472 - 416_866_032 - 1152 * 2561,
    "google/gemma-3-12b-pt": 12_187_325_040 - 416_866_032 - 1152 * 3841,
    "google/gemma-3-27b-pt": 27_432_406_640 - 416_866_032 - 1152 * 5377,
}
"""Parameter counts as the hub shows them."""


def llama_8b(**overrides: object) -> dict[str, object]:
    """Give the sizing keys of Llama-3.1-8B."""
    return {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 131072, **overrides,
    }  # fmt: skip


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_catalogue_models_have_their_published_number_of_parameters(name, count):
    """A wrong key in the catalogue, or a wrong formula, shows in the last digit."""
    shape = model_named(name)

    assert shape is not None
    assert shape.num_parameters == count


def test_every_catalogue_model_can_be_sized():
    """No entry of the catalogue is refused; names are told apart."""
    names = [name for model in models() for name in (model.name, *model.aliases)]

    assert len(models()) >= 100
    assert all(model.architecture.num_parameters > 0 and model.source for model in models())
    assert len(names) == len(set(names))


SIZE = re.compile(r"(?<![a-zA-Z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)
SOLD_AS = {
    "meta-llama/Llama-4-Scout-17B-16E": 109,
    "tiiuae/Falcon3-1B-Base": 1.67,
    "meta-llama/Llama-3.2-1B": 1.23,
    "google/gemma-2b": 2.51,
    "google/gemma-7b": 8.54,
    "google/gemma-2-2b": 2.61,
    "baidu/ERNIE-4.5-0.3B-PT": 0.36,
}
"""Billions of parameters by the authors' own account, where the name says another figure: active parameters, or a rounder one."""


def test_a_models_name_says_how_many_parameters_it_has():
    """Within a sixth, as names are rounded: a figure of config.json that belongs to another size is further off."""
    off, seen = {}, 0
    for model in models():
        said = SIZE.search(model.name.rpartition("/")[2])
        if said is None or "-8x" in model.name.lower():
            continue
        billions = SOLD_AS.get(model.name, float(said[1]) * (1 if said[2].lower() == "b" else 0.001))
        seen += 1
        if not 5 / 6 <= model.architecture.num_parameters / 1e9 / billions <= 7 / 6:
            off[model.name] = model.architecture.num_parameters

    assert off == {}
    assert seen >= 80


def test_an_instruct_variant_is_found_by_its_own_name():
    """Case does not matter, and variants share the shape of their base."""
    found = catalogue_entry("meta-llama/llama-3.3-70b-instruct")

    assert found is not None
    assert found.name == "meta-llama/Llama-3.1-70B"


def test_an_unknown_name_is_not_guessed():
    """The caller says what to do then."""
    assert model_named("meta-llama/Llama-4-70B") is None


def test_a_mixture_counts_what_one_token_passes():
    """Active parameters: everything but the experts that are not chosen."""
    shape = model_named("Qwen/Qwen3-30B-A3B")

    assert shape is not None
    expert = 3 * 2048 * 768
    assert shape.num_parameters - shape.num_active_parameters == 48 * (128 - 8) * expert
    assert (shape.num_experts, shape.experts_per_token) == (128, 8)


def test_preflights_reduced_config_gives_the_same_shape_as_the_whole_one():
    """Lists arrive as lengths and counts; the text decoder arrives lifted."""
    layers = ["sliding_attention"] * 5 + ["full_attention"]
    text = {
        "model_type": "gemma4_text", "hidden_size": 96, "intermediate_size": 208, "num_hidden_layers": 12,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 24, "global_head_dim": 48, "vocab_size": 1024,
        "vocab_size_per_layer_input": 1024, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 4,
    }  # fmt: skip
    nested = {**text, "layer_types": layers * 2}
    whole = {"model_type": "gemma4", "text_config": nested, "vision_config": {"hidden_size": 768}}
    reduced = {
        **text, "model_type": "gemma4", "text_model_type": "gemma4_text",
        "layer_types": "full_attention:2,sliding_attention:10",
    }  # fmt: skip

    one, other = architecture(whole), architecture(reduced)

    assert linears(one) == linears(other)
    assert one.num_parameters == other.num_parameters


def test_the_shape_survives_a_round_trip_through_status():
    """What status keeps in `config` is enough to count again."""
    shape = architecture(llama_8b(torch_dtype="bfloat16", rope_scaling={"factor": 8.0}, pad_token_id=None))
    again = type(shape).model_validate_json(shape.model_dump_json())

    assert again == shape
    assert [(part.name, part.inputs, part.outputs, part.count) for part in linears(again)] == [
        ("q_proj", 4096, 4096, 32),
        ("k_proj", 4096, 1024, 32),
        ("v_proj", 4096, 1024, 32),
        ("o_proj", 4096, 4096, 32),
        ("gate_proj", 4096, 14336, 32),
        ("up_proj", 4096, 14336, 32),
        ("down_proj", 14336, 4096, 32),
        ("lm_head", 4096, 128256, 1),
    ]


def test_an_unknown_family_is_refused_with_the_families_that_work():
    """Nothing is guessed from a familiar-looking config."""
    with pytest.raises(JobError) as caught:
        architecture(llama_8b(model_type="mamba2"))

    assert caught.value.reason == "ModelUnsupported"
    assert caught.value.message.startswith(
        "models with model_type 'mamba2' are not supported. Supported families: apertus, arcee, "
    )


@pytest.mark.parametrize("place", ["", "text_config."])
def test_quantised_weights_are_not_planned(place: str):
    """Preflight would refuse them: a plan in plain lora would be of another model."""
    quantised = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    config = llama_8b(**quantised) if not place else llama_8b(text_config={"model_type": "llama", **quantised})
    with pytest.raises(JobError) as caught:
        architecture(config)

    assert (caught.value.reason, caught.value.message) == (
        "ModelUnsupported",
        f"config.json: {place}quantization_config says that the weights are already quantised (gptq) and cannot be trained: use "
        "the config.json of the unquantised model; method qlora quantises it while loading",
    )


@pytest.mark.parametrize("name", ["LlamaForSequenceClassification", "LlamaForRewardModel", "LlamaModel"])
def test_a_model_without_a_language_head_is_not_planned(name: str):
    """Its head would be random."""
    with pytest.raises(JobError) as caught:
        architecture(llama_8b(architectures=[name]))

    assert caught.value.message == (
        f"config.json: architectures names {name}, which has no language head, such as a classifier, a reward model or an encoder: "
        "use the config.json of the language model that it was made from"
    )


def test_a_missing_size_is_named():
    """The user reads which key of config.json is missing."""
    config = llama_8b()
    del config["hidden_size"]

    with pytest.raises(
        JobError, match=r"^config.json: hidden_size is missing, but is required to estimate the memory$"
    ):
        architecture(config)


def test_a_config_without_model_type_is_no_model():
    """A dataset's folder has a config.json too."""
    with pytest.raises(JobError, match=r"^config.json has no model_type: use the folder of a transformers model$"):
        architecture({"hidden_size": 4096})


@pytest.mark.parametrize(
    ("adapter", "count"),
    [
        (Adapter(lora_rank=16), 41_943_040),
        (Adapter(lora_rank=16, targets="attention"), 13_631_488),
        (Adapter(lora_rank=16, targets="custom", target_modules=("q_proj", "v_proj")), 6_815_744),
        (Adapter(lora_rank=16, targets="custom", target_modules=("mlp.down_proj",)), 9_437_184),
        (Adapter(lora_rank=16, dora=True), 41_943_040 + 32 * 43_008),
        (Adapter(lora_rank=16, adalora=True), 62_914_560 + 32 * 7 * 24),
    ],
    ids=["all-linear", "attention", "q and v", "by a longer name", "dora", "adalora starts larger"],
)
def test_adapter_parameters_of_llama_8b(adapter, count):
    """PEFT's own counts (tests/trainer/test_architecture_exact.py injects for real)."""
    assert adapter_parameters(architecture(llama_8b()), adapter) == count


def test_experts_get_an_adapter_only_on_request_and_the_router_never():
    """PEFT's own all-linear would train 981 million parameters of Qwen3-30B-A3B."""
    shape = model_named("Qwen/Qwen3-30B-A3B")
    assert shape is not None
    attention = 48 * 16 * (2 * (2048 + 4096) + 2 * (2048 + 512))
    experts = 48 * 128 * 16 * ((2048 + 2 * 768) + (768 + 2048))

    assert adapter_parameters(shape, Adapter(lora_rank=16)) == attention
    assert adapter_parameters(shape, Adapter(lora_rank=16, experts=True)) == attention + experts
