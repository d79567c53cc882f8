"""What goes wrong with a scan."""


class VolumeError(ValueError):
    """A scan that cannot be used: the message names the file, what is wrong and what would mend it."""


class VolumeWarning(UserWarning):
    """A scan that can be used, though its file says something doubtful."""
