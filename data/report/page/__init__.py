"""The building blocks of reports: blocks, charts, formulas, and access to artifacts."""
