"""The policy model: checkpoint, tokenizer, attention, prompts, steps and questions."""
