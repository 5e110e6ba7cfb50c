"""The errors a user can meet. Each message says what was expected, what came, and what to do."""


class SituError(Exception):
    """Base of every error that is the input's fault, not the program's; the command line prints it as one line."""


class LatentError(SituError):
    """A latent, space or subspace that does not fit (wrong size, unknown layer, not finite, impossible conversion)."""


class GeneratorError(SituError):
    """A generator that does not fit what was asked of it (unknown feature layer, wrong settings, other weights)."""


class RegionError(SituError):
    """A region that cannot be made (unknown part, empty mask, box outside the picture)."""


class DirectionError(SituError):
    """A direction that cannot be used (other generator, corrupt file, unreachable distance)."""


class JacobianError(SituError):
    """A Jacobian that cannot be made, kept or solved (too large for its memory, singular)."""


class ImageError(SituError):
    """A picture that cannot be read, written or shown."""


class FileError(SituError):
    """A file or folder that cannot be read or written."""


class ModelError(SituError):
    """A model that cannot be found or opened."""


class InversionError(SituError):
    """An inversion that cannot be made, read or continued."""


class PhotoError(SituError):
    """A photo that cannot be read, aligned or put back together."""
