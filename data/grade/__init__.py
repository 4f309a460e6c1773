"""Is this answer right: math-verify in a process that can be killed."""
