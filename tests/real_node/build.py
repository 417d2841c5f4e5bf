"""Build what the tests on real nodes need and do not have, and unpack the images. `make e2e-node` runs this first."""

import sys
import tempfile
from pathlib import Path

from finetune_operator.local.binaries import Say
from finetune_operator.local.provide import provide
from finetune_operator.local.state import ClusterState

from tests.real_node.images import IMAGES, build, packages
from tests.real_node.programs import NEEDED, REGISTRY, missing
from tests.real_node.registry import push, start_registry, stop_registry, unpack


def main() -> int:
    """Build everything; returns the exit code."""
    if reason := missing():
        print(reason, file=sys.stderr)
        return 1
    programs = provide(NEEDED, say=print)
    for image in IMAGES:
        build(image, print)
        packages(image)  # a test asks for them: the layers are there then
    unpack_all(programs[REGISTRY.name], print)
    for image in IMAGES:
        image.note.write_text(image.recipe())
    return 0


def unpack_all(registry: Path, say: Say) -> None:
    """Push the images and unpack them into the store that nodes borrow."""
    with tempfile.TemporaryDirectory() as folder:
        state = ClusterState(Path(folder) / "images")
        state.create()
        try:
            address = start_registry(state, registry)
            say("pushing and unpacking the images; minutes the first time")
            unpack(state, [push(image, address) for image in IMAGES])
        finally:
            stop_registry(state)


if __name__ == "__main__":
    sys.exit(main())
