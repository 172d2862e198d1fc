"""The trainings that are killed: small ones of two networks."""

import torch
import torch._dynamo  # loaded with the first layer, and better before a process is forked

from recdrop.study.conditions import grid
from recdrop.study.training import train as train_table
from recdrop.tasks.temporal_order import TemporalOrder
from recdrop.tasks.word_lm import WordLanguageModel

TASKS = {"temporal_order": TemporalOrder, "word_lm": WordLanguageModel}


def train(name: str, folder: str) -> None:
    """At the profile smoke; a checkpoint after each update."""
    torch.set_num_threads(1)
    task = TASKS[name]("smoke")
    task.settings |= {"epochs": 4}
    conditions = grid(task.name, task.settings, ["semeniuta", "moon"], [0.5], ["step"])
    train_table(task, conditions, folder, progress=False, checkpoint_every=0)
