"""A server that translates for programs that speak to LibreTranslate, OpenAI, DeepL or Apertium, and for a browser.

``service`` translates, in threads; ``desk`` lets in as many requests as there is room for; ``guard`` and ``api`` look at
what comes; one module for each API says its words, and no more.
"""
