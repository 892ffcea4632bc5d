"""Recovery: mend a pruned checkpoint by a short SFT on the pair's own text, with or without the unpruned model as teacher.

- ``settings``: what may be chosen, and how the rest is chosen
- ``objective``: what is minimised: cross-entropy of the response, distillation of logits and routers
- ``lora``: adapters instead of all weights
- ``trainer``: transformers' Trainer on batches of like length, with checkpoints and early stopping
- ``recover``: the stage itself, from checkpoint folder to checkpoint folder
"""
