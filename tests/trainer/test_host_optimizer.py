"""Which of the image's libraries a CPU gets; that they compute right is a test of `make test-offload`."""

from pathlib import Path

import pytest
from finetune_trainer.runtime import host_optimizer

HASWELL = "fpu sse2 ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes avx f16c rdrand abm bmi1 avx2 bmi2"
SKYLAKE = f"{HASWELL} avx512f avx512dq avx512cd avx512bw avx512vl"
KNIGHTS = f"{HASWELL} avx512f avx512pf avx512er avx512cd"


@pytest.mark.parametrize(
    ("flags", "level"), [(SKYLAKE, "x86-64-v4"), (KNIGHTS, "x86-64-v3"), (HASWELL, "x86-64-v3"), ("fpu sse2", "")]
)
def test_a_cpu_gets_the_best_level_of_which_it_has_every_flag(flags: str, level: str):
    """AVX-512 of the first kind is not enough: compilers use its later parts at x86-64-v4."""
    assert host_optimizer.level_of(frozenset(flags.split())) == level


def test_without_a_library_deepspeed_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In a checkout there is no folder; a folder without this CPU's level is none either."""
    monkeypatch.delenv(host_optimizer.FOLDER, raising=False)
    assert host_optimizer.provide() == ""

    monkeypatch.setenv(host_optimizer.FOLDER, str(tmp_path))
    assert host_optimizer.provide() == ""
