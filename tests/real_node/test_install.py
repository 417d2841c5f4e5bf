"""The chart on real nodes."""

import pytest

from tests.real_node.images import OPERATOR
from tests.real_node.installation import RELEASE, SYSTEM, Installation

pytestmark = pytest.mark.real_node


def test_the_chart_installs_two_operators_from_the_image_by_digest(installation: Installation):
    """In a namespace that enforces `restricted`; a Deployment counts a Pod as ready once its probe has answered."""
    plane = installation.cluster.plane
    deployment = plane.get("deployment", RELEASE, "-n", SYSTEM)
    images = {pod["spec"]["containers"][0]["image"] for pod in plane.get("pods", "-n", SYSTEM)["items"]}

    assert deployment["status"]["readyReplicas"] == 2
    assert images == {installation.cluster.images[OPERATOR]}
