"""DeepSpeed's AdamW for offload, compiled when the image is built: else each Pod compiles it first, two minutes with idle GPUs.

`python host_optimizer.py FOLDER` compiles it for each level of x86-64 that its kernels know; the Dockerfile calls that, with
nothing else of ours in the image yet, so this file imports nothing of ours. `provide` loads the one for this machine's CPU.
Where there is none (another kind of CPU, a checkout without the folder), DeepSpeed compiles as it always did.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

FOLDER = "FINETUNE_EXTENSIONS"
"""Environment variable that names the folder of what is compiled."""

NAME = "cpu_adam"

_V3 = frozenset(("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"))

LEVELS = {
    "x86-64-v4": ("-D__AVX512__", _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    "x86-64-v3": ("-D__AVX256__", _V3),
}
"""Level -> the kernels' width in DeepSpeed's words, and the CPU flags that it needs (x86-64 psABI, table 3.1, in Linux's names).

Best first. Compiled with `-march=native`, as DeepSpeed does it, a library would hold instructions of the builder's CPU."""


def provide() -> str:
    """Let DeepSpeed use the library for this CPU; returns its level, empty where DeepSpeed has to compile it."""
    folder = os.environ.get(FOLDER)
    level = level_of(_cpu_flags())
    if not folder or not level:
        return ""
    library = Path(folder, level, NAME, f"{NAME}.so")
    if not library.exists():
        return ""
    from deepspeed.ops.op_builder.builder import OpBuilder  # noqa: PLC0415 - seconds, and only offload needs it

    spec = importlib.util.spec_from_file_location(NAME, library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # DeepSpeed's table of what is loaded already. Its public way (DS_BUILD_CPU_ADAM) compiles for the builder's CPU alone.
    OpBuilder._loaded_ops[NAME] = module  # noqa: SLF001
    return level


def level_of(flags: frozenset[str]) -> str:
    """Return the best level that a CPU with these flags has, empty for none."""
    return next((level for level, (_, needed) in LEVELS.items() if needed <= flags), "")


def compile_level(level: str) -> None:
    """Compile for one level into TORCH_EXTENSIONS_DIR. Needs g++ and ninja; takes a minute or two of CPU."""
    from deepspeed.ops.op_builder.cpu import CPUAdamBuilder  # noqa: PLC0415 - as above

    width = LEVELS[level][0]

    class ForLevel(CPUAdamBuilder):
        """DeepSpeed's recipe with another processor in it."""

        def cpu_arch(self) -> str:
            return f"-march={level}"

        def simd_width(self) -> str:
            return width

        def cxx_args(self) -> list[str]:
            return [each for each in super().cxx_args() if each != "-g"]  # 30 MB that nobody debugs

    ForLevel().load()


def compile_all(folder: Path) -> None:
    """Compile for every level; a process each, as one process loads a module of this name once."""
    for level in LEVELS:
        target = folder / level
        target.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"TORCH_EXTENSIONS_DIR": str(target)}
        subprocess.run([sys.executable, __file__, str(folder), level], env=environment, check=True)
        for left in (target / NAME).iterdir():
            if left.suffix != ".so":  # object files, ninja's notes, torch's lock
                left.unlink()


def _cpu_flags() -> frozenset[str]:
    from cpuinfo import get_cpu_info  # noqa: PLC0415 - runs subprocesses

    return frozenset(get_cpu_info().get("flags", ()))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        compile_level(sys.argv[2])
    else:
        compile_all(Path(sys.argv[1]))
