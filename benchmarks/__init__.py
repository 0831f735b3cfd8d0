"""Measures; is imported by nothing."""
