"""One build for all tests of the hot path."""

import pytest

from support.hot import Built, build_into


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_into(tmp_path_factory.mktemp("hot") / "build")
