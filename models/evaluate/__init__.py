"""Sample and grade: Pass@K, Maj@K, rejection sampling, and lm-evaluation-harness."""
