"""Build the package. All metadata is in pyproject.toml."""

from setuptools import setup

setup()
