"""Log-probabilities of sequences: their layout in a forward pass, the chunked head, and their partition over ranks."""
