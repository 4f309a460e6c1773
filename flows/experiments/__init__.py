"""Experiments that compare training methods and rewards (`compare`), or corpora (`ablate`)."""
