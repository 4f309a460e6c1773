"""Records of a round: counts, samples, histograms, warnings, and why a page was dropped."""
