"""What goes wrong with a scan."""


class VolumeError(ValueError):
    """A scan that cannot be used: the message names the file, what is wrong and what would mend it."""


def causes(error: BaseException) -> list[BaseException]:
    """Return an error and those that it was raised from, the outermost first; MONAI wraps what a transform raised."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and not any(cause is seen for seen in chain):
        chain.append(cause)
    return chain


class VolumeWarning(UserWarning):
    """A scan that can be used, though its file says something doubtful."""
