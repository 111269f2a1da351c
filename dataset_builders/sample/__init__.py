"""Generators of made-up, openly licensed feedback in publishers' formats, so that everything runs without real data."""
