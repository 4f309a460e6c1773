"""Group relative policy optimisation, as in section 4.1 of the paper."""
