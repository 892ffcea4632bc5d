"""Sources as people type them: a small share of rows loses its capital, its last full stop, or is in capitals."""

import random

TYPED = 0.04  # share of rows whose source loses its first capital and its last punctuation; the target stays right
BARE = 0.03  # share whose two sides lose their last full stop
SHOUTED = 0.01  # share whose two sides are in capitals


def roughen(source: str, target: str, rng: random.Random) -> tuple[str, str]:
    """The pair, or for a few in a hundred a rougher form of it."""
    drawn = rng.random()
    if drawn < TYPED:
        return (source[:1].lower() + source[1:]).rstrip(".!?"), target
    if drawn < TYPED + BARE:
        return (source[:-1], target[:-1]) if source.endswith(".") and target.endswith(".") else (source, target)
    if drawn < TYPED + BARE + SHOUTED:
        return source.upper(), target.upper()
    return source, target
