"""Reports of several runs side by side."""
