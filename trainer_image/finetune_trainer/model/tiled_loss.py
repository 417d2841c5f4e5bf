"""What TRL's tiled loss asks of a model, where the model's class in transformers does not tell. Called by load."""

from transformers import PreTrainedModel


def fit_for_tiled_loss(model: PreTrainedModel) -> None:
    """Let the loss find the decoder and the number of experts of every family; nothing is computed otherwise.

    Llama 4's class says that its decoder is at `language_model`, which is the name in the multimodal class: the loss would run the
    whole model in its place. Phi 3.5 MoE and Granite MoE have another name for the number of their experts.
    """
    if not hasattr(model, model.base_model_prefix):
        model.base_model_prefix = "model"
    text = model.config.get_text_config()
    if not hasattr(text, "num_experts") and hasattr(text, "num_local_experts"):
        type(text).attribute_map = {**type(text).attribute_map, "num_experts": "num_local_experts"}
