"""Answer checking: by kind, exactly, and by math-verify in a process that can be killed."""
