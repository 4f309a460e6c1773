"""Supervised training for pretraining, fine-tuning and reward models: tokenization, packing, schedule, resuming, speed."""
