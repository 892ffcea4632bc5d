"""Recovery: recover a pruned checkpoint on the pair's own text, by training or in closed form.

- ``settings``: what may be chosen, and how the rest is chosen
- ``task``: what a way of recovery is given, and what it gives back
- ``fine_tune``: a short SFT, with or without the unpruned model as teacher
- ``objective``: what it minimises: cross-entropy of the response, distillation of logits and routers
- ``lora``: adapters instead of all weights
- ``trainer``: transformers' Trainer on batches of like length, with checkpoints and early stopping
- ``least_squares``: each layer's experts refitted to the unpruned model's hidden states, without gradients
- ``equations``: its normal equations
- ``recover``: the stage itself, from checkpoint folder to checkpoint folder
"""
