"""Group Relative Policy Optimization (paper section 4.1), and the other methods of section 5.2."""
