"""Silence of loggers."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def only_errors(logger: logging.Logger) -> Iterator[None]:
    """Leaves out what a logger says below an error."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
