"""What ends a whole batch, and not one scan."""


class BatchStopped(OSError):  # noqa: N818 - it is what happened, not a fault of the program
    """Nothing more can be done for any scan, as on a full disk; what was done until then is in the journal."""
