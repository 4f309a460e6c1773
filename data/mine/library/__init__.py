"""The library of cleaned pages: URL and near-duplicate removal, decontamination."""
