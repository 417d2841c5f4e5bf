"""The packages to carry to a machine without a network: `python -m tests.gpu.wheels FOLDER`, where there is one.

Fetches the versions that requirements/trainer.txt pins, for Python 3.12 on Linux; builds DeepSpeed's wheel, which its authors publish
as source only; leaves of bitsandbytes what CUDA 13 needs; and prints the table of tests/gpu/wheels.json, which the report shows.
torch, triton and the CUDA libraries are not among them: they must be there. On the machine:

    pip install --no-index --no-deps FOLDER/*.whl
"""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("wheels.json")
CARRIED = (
    "transformers", "tokenizers", "huggingface-hub", "peft", "trl", "accelerate", "datasets", "deepspeed", "bitsandbytes",
    "pydantic", "pydantic-core", "annotated-types", "typing-inspection", "hjson", "py-cpuinfo", "einops", "ninja", "msgpack",
)  # fmt: skip
BESIDE = {"liger-kernel": "0.8.0"}
"""Not among our dependencies: for one of the changes whose speed is measured."""
KEPT_LIBRARY = "libbitsandbytes_cuda130.so"
PYTHON = "3.12"
PLATFORMS = tuple(f"manylinux{tag}_x86_64" for tag in ("_2_34", "_2_28", "_2_24", "_2_17", "2014"))


def pins() -> dict[str, str]:
    """Return the versions to carry."""
    text = (ROOT / "requirements/trainer.txt").read_text()
    return {name: re.search(rf"^{name}==(\S+)", text, re.MULTILINE)[1] for name in CARRIED} | BESIDE  # type: ignore[index]


def fetch(name: str, version: str, folder: Path) -> None:
    """Put one wheel into the folder."""
    wanted = f"{name}=={version}"
    if name == "deepspeed":
        command = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), wanted]
    else:
        platforms = [option for platform in PLATFORMS for option in ("--platform", platform)]
        command = [
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--python-version",
            PYTHON,
            *platforms,
            "--dest",
            str(folder),
            wanted,
        ]
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *command], check=True)


def trim(wheel: Path) -> None:
    """Leave out bitsandbytes' libraries for other versions of CUDA, in the files and in the list of them."""
    with zipfile.ZipFile(wheel) as whole:
        files = {name: whole.read(name) for name in whole.namelist() if not _other_library(name)}
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as kept:
        for name, content in files.items():
            if name.endswith("/RECORD"):
                lines = [line for line in content.decode().splitlines() if not _other_library(line.partition(",")[0])]
                content = ("\n".join(lines) + "\n").encode()  # noqa: PLW2901 - the same file, with fewer lines
            kept.writestr(name, content)


def _other_library(name: str) -> bool:
    return name.endswith(".so") and "libbitsandbytes_" in name and not name.endswith((KEPT_LIBRARY, "_cpu.so"))


def main(folder: Path) -> None:
    """Fetch, trim, and write the table."""
    folder.mkdir(parents=True, exist_ok=True)
    table = []
    for name, version in pins().items():
        fetch(name, version, folder)
        wheel, *_ = folder.glob(f"{name.replace('-', '_')}-*.whl")
        if name == "bitsandbytes":
            trim(wheel)
        table.append({"name": name, "version": version, "megabytes": round(wheel.stat().st_size / 1e6, 1)})
        print(table[-1], flush=True)
    TABLE.write_text(json.dumps(table, indent=1) + "\n")
    print(f"{sum(row['megabytes'] for row in table):.0f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
