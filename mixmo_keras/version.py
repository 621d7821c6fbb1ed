"""The package's version: in `pyproject.toml`, in what runs write and in model cards."""

__version__ = "0.1.0"
