"""Which tokens stay: those that a pair's text uses, and those without which some text could not be encoded."""
