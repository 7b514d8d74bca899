"""Tests of the networks that come with the package."""
