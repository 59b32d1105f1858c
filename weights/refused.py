"""What a checkpoint that cannot become one of our networks ends in."""


class Refused(Exception):
    """The text says why, in a sentence, and what to do."""
