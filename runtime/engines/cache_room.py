"""How large caches are: as the texts need, within what the model knows and memory allows."""

from runtime.engines.base import NoRoom
from runtime.machine import memory_left

FIRST_CACHE = 1024  # tokens that the cache of one sequence holds until a longer one comes
_SHARE = 4  # a batch takes at most one in so many bytes of the memory that is left


def first_room(context: int) -> int:
    """Tokens that a cache begins with where no context was asked for."""
    return min(FIRST_CACHE, context)


def grown(room: int, tokens: int, context: int) -> int:
    """Tokens of a larger cache: twice the room until ``tokens`` fit, so that few caches are made on the way."""
    while room < tokens:
        room *= 2
    return min(room, context)


def check_room(tokens: int, needed: int) -> None:
    """See whether a cache of ``needed`` bytes fits into memory.

    Raises:
        NoRoom: it does not.
    """
    if needed > (left := memory_left()):
        raise NoRoom(tokens, needed, left)


def places_for(places: int, room: int, needed: int) -> int:
    """How many of ``places`` sequences of ``room`` tokens, ``needed`` bytes each, memory has room for; at least one.

    Raises:
        NoRoom: one alone does not fit.
    """
    check_room(room, needed)
    return max(1, min(places, memory_left() // _SHARE // max(needed, 1)))


def scaled(size: int, of: int, room: int, has_state: bool) -> int:
    """Bytes of a cache for ``room`` tokens, by the ``size`` of one for ``of`` tokens.

    A state that layers keep instead of keys and values does not shrink with it.
    """
    return size * max(room, of if has_state else 0) // of
