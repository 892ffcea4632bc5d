"""The same pruned checkpoint in every runtime, side by side; ``make peers`` runs it, docs/peers.md says what came out."""
