"""The errors that a user can cause and mend. The command line shows each as one line and exits with status 2."""


class VarGFaceNetError(Exception):
    """Base of every error that is about what was asked for, not about a fault of the program."""


class SettingError(VarGFaceNetError):
    """A name, option or setting that does not exist or whose value is out of range."""


class DataError(VarGFaceNetError):
    """A data file or image that is missing, damaged or not what it should be."""


class CheckpointError(VarGFaceNetError):
    """A checkpoint that is missing, damaged or does not fit its graph."""


class ExportError(VarGFaceNetError):
    """A network that cannot leave MXNet, or came out of it as another function."""


class TrainingError(VarGFaceNetError):
    """A training run that cannot go on."""


class SetupError(VarGFaceNetError):
    """A package, library or device that this machine lacks."""


class ClusterError(VarGFaceNetError):
    """A machine, a process or a port that workers need and that is gone, out of reach or in use."""


class Stopped(VarGFaceNetError):
    """A training run that a signal stopped, and that has saved where it was.

    Attributes
    ----------
    status : int
        What the process is to exit with: 128 + the signal's number.
    """

    def __init__(self, message, number):
        super().__init__(message)
        self.status = 128 + number
