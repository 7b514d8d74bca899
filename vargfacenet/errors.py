"""Errors that a user can cause and correct. The command line shows each as one line and exits with status 2."""


class VarGFaceNetError(Exception):
    """Base of all errors that are caused by the request, not by a fault of the program."""


class SettingError(VarGFaceNetError):
    """A name, option or setting that does not exist or whose value is out of range."""


class DataError(VarGFaceNetError):
    """A data file or image that is missing, damaged or of the wrong kind."""


class CheckpointError(VarGFaceNetError):
    """A checkpoint that is missing or damaged, or does not fit its graph."""


class ExportError(VarGFaceNetError):
    """A network that cannot be exported, or whose export computes another function."""


class TrainingError(VarGFaceNetError):
    """A training run that cannot continue."""


class SetupError(VarGFaceNetError):
    """A package, library or device that this machine lacks."""


class ClusterError(VarGFaceNetError):
    """A machine, process or port that workers need and that is lost, unreachable or in use."""


class Stopped(VarGFaceNetError):
    """A training run that was stopped by a signal and has saved its state.

    `status` is the exit status of the process: 128 + the signal's number.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.status = 128 + number
