"""Evaluation suites that outside harnesses load by module name."""
