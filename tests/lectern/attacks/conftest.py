"""The wall that is attacked, and the grader without one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .controls import Controls
from .trials import Wall


@pytest.fixture(scope="session")
def controls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controls]:
    found = Controls(tmp_path_factory.mktemp("controls"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def wall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wall]:
    with Wall(Path(tmp_path_factory.mktemp("wall"))) as found:
        yield found
