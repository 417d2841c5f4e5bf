"""What is inside our images: the packages that the tests run with, our code, and a user that is not root."""

import re
from importlib.metadata import distributions, version

import pytest

from tests.real_node.images import (
    IMAGES,
    OPERATOR,
    PREFLIGHT,
    REPOSITORY,
    TRAINER,
    Image,
    configuration,
    inside,
    packages,
    rebuilt,
)

pytestmark = pytest.mark.real_node

EACH = pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
LIST = "from importlib.metadata import distributions as d; print('\\n'.join(f'{x.name}=={x.version}' for x in d()))"


def normal(name: str) -> str:
    """Return a package name as PyPI compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(image: Image) -> dict[str, str]:
    """Return the packages that the image's requirements pin."""
    text = (REPOSITORY / "requirements" / image.requirements).read_text()
    return {normal(name): version for name, version in re.findall(r"^([\w.\-]+)==(\S+)", text, re.MULTILINE)}


@EACH
def test_an_image_holds_the_packages_that_the_tests_ran_with(built: tuple[Image, ...], image: Image):
    """Package by package and version by version; nothing but pip and its like comes on top."""
    listed = inside(image, "python3", "-c", LIST).split()
    found = {normal(name): version for name, version in (line.split("==") for line in listed)}
    here = {normal(each.name): each.version for each in distributions()}
    wanted = pinned(image)

    assert without_tools(found, wanted) == wanted
    assert {name: here.get(name) for name in wanted} == wanted


@EACH
def test_the_bill_of_materials_lists_what_is_inside(built: tuple[Image, ...], image: Image):
    """Each Dockerfile has a target for it; a scanner finds the packages by their purl."""
    components = packages(image)
    found = {normal(each["name"]): each["version"] for each in components}
    wanted = pinned(image)

    assert without_tools(found, wanted) == wanted
    assert [each["purl"] for each in components if not each["purl"].startswith("pkg:pypi/")] == []


def without_tools(found: dict[str, str], wanted: dict[str, str]) -> dict[str, str]:
    """Return packages without what a virtual environment has from the start."""
    tools = {"pip", "setuptools"} - wanted.keys()
    return {name: version for name, version in found.items() if name not in tools}


@EACH
def test_an_image_runs_as_a_user_with_a_name(built: tuple[Image, ...], image: Image):
    """getpass and torch look the user up in passwd, and tools the group."""
    who = (
        "import getpass, grp, os; print(os.getuid(), getpass.getuser(), os.getgid(), grp.getgrgid(os.getgid()).gr_name)"
    )

    assert inside(image, "python3", "-c", who) == "65532 finetune 65532 finetune\n"


@EACH
def test_an_image_says_what_it_is_and_starts_without_a_shell(built: tuple[Image, ...], image: Image):
    """The kubelet refuses runAsNonRoot for a user by name; an argument list gets SIGTERM itself."""
    found = configuration(image)
    named = {
        key.removeprefix("org.opencontainers.image."): value
        for key, value in found["Labels"].items()
        if key.startswith("org.opencontainers.image.")
    }
    described = named.pop("description")

    assert named == {"title": image.name, "licenses": "Apache-2.0", "version": version("finetune-operator")}
    assert described
    assert found["User"] == "65532:65532"
    assert found["Entrypoint"][1:] == ["-m", "finetune_operator" if image is OPERATOR else "finetune_trainer"]


@EACH
def test_the_entry_point_answers(built: tuple[Image, ...], image: Image):
    """Our code is there and imports what it needs."""
    module = "finetune_operator" if image is OPERATOR else "finetune_trainer"
    said = inside(image, "python3", "-m", module, "--help")

    assert said.lower().startswith("usage") or "Usage" in said


def test_the_trainers_image_has_what_compilers_would_make_in_each_pod(built: tuple[Image, ...]):
    """DeepSpeed's optimizer for this CPU, and the headers that Triton's launchers need."""
    provide = "from finetune_trainer.runtime.host_optimizer import level_of, provide, _cpu_flags as flags; "
    headers = "import os, sysconfig; print(os.path.exists(sysconfig.get_path('include') + '/Python.h'))"
    said = inside(TRAINER, "python3", "-c", f"{provide}print(provide() == level_of(flags()) != ''); {headers}")

    assert said.split()[-2:] == ["True", "True"]


def test_an_image_built_twice_is_the_same(built: tuple[Image, ...]):
    """From the same base: no layer holds the time of its build. Preflight's, because it is built in a minute."""
    assert rebuilt(PREFLIGHT) == rebuilt(PREFLIGHT)
