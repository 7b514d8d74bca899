"""Training and distillation: settings, recipes, and runs that leave checkpoints in a folder.

>>> from vargfacenet.train import resolve, train
>>> config = resolve("small_student_scratch", {"multiplier": 0.5, "max_updates": 500})
>>> result = train(config, data="faces_emore", out="runs/mine")
"""

from vargfacenet.train.callback import Callback, TrainingContext, UpdateResult, register_callback
from vargfacenet.train.config import Config, read_config, resolve
from vargfacenet.train.embedder_teacher import EmbedderTeacher
from vargfacenet.train.engine import StepResult, TrainerProtocol
from vargfacenet.train.recipes import list_recipes, load_recipe
from vargfacenet.train.run import Result, train
from vargfacenet.train.run_folder import Resume
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.stopping import Stopping
from vargfacenet.train.teacher import Teacher

__all__ = [
    "Callback",
    "Config",
    "EmbedderTeacher",
    "Result",
    "Resume",
    "Runtime",
    "StepResult",
    "Stopping",
    "Teacher",
    "TrainerProtocol",
    "TrainingContext",
    "UpdateResult",
    "list_recipes",
    "load_recipe",
    "read_config",
    "register_callback",
    "resolve",
    "train",
]
