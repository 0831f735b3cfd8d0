"""`posert bench`: end-to-end latency and throughput, and whether two results differ."""
