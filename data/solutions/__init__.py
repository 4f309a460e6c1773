"""Solution formats, prompts, steps and answer extraction."""
