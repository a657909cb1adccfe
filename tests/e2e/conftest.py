"""What tests of packages share."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


@pytest.fixture(scope="module")
def certificates() -> Generator[None]:
    """Those of public authorities, with which packages are downloaded: other tests have none (tests/__init__.py)."""
    known = os.environ["WEBHOOK_TEST_CERTIFICATES"]
    with pytest.MonkeyPatch.context() as patch:
        if known:
            patch.setenv("SSL_CERT_FILE", known)
        else:
            patch.delenv("SSL_CERT_FILE")
        yield
