"""Scripts that measure posert and others, run from a checkout: `python -m posert.benchmarks.NAME --help`.

They are not in the wheel and nothing imports them; `posert bench` is `posert.runtime.bench`.
"""
