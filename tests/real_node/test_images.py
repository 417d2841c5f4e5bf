"""What is inside our images: the packages that the tests run with, our code, and a user that is not root."""

import re
from importlib.metadata import distributions

import pytest

from tests.real_node.images import IMAGES, OPERATOR, REPOSITORY, Image, inside

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

    tools = {"pip", "setuptools"} - wanted.keys()

    assert {name: version for name, version in found.items() if name not in tools} == wanted
    assert {name: here.get(name) for name in wanted} == wanted


@EACH
def test_an_image_runs_as_a_user_with_a_name(built: tuple[Image, ...], image: Image):
    """getpass and torch look the user up in passwd."""
    assert inside(image, "python3", "-c", "import getpass, os; print(os.getuid(), getpass.getuser())") == (
        "65532 finetune\n"
    )


@EACH
def test_the_entry_point_answers(built: tuple[Image, ...], image: Image):
    """Our code is there and imports what it needs."""
    module = "finetune_operator" if image is OPERATOR else "finetune_trainer"
    said = inside(image, "python3", "-m", module, "--help")

    assert said.lower().startswith("usage") or "Usage" in said
