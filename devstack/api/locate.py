"""Where the sockets, locks and entries of a stack are; the same answer for commands and the keeper."""

from devstack.keeper.places import (
    PlaceRefused,
    Places,
    check,
    check_folder,
    make,
    places_of,
    read_entry,
    remove_entry,
    stack_id_of,
    stacks,
    user_folder,
    write_entry,
)

__all__ = [
    "PlaceRefused",
    "Places",
    "check",
    "check_folder",
    "make",
    "places_of",
    "read_entry",
    "remove_entry",
    "stack_id_of",
    "stacks",
    "user_folder",
    "write_entry",
]
