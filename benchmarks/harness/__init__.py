"""What the scripts of benchmarks/ share: processes, clocks, taking turns, statistics, drawings."""
