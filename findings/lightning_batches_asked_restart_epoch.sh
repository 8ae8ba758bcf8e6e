#!/usr/bin/env bash
# lightning 2.6.6: reading `trainer.estimated_stepping_batches` in `configure_optimizers` makes a
# resumed epoch start from its first batch.
#
# Guess: the property only reads, so it changes nothing; Lightning's own documentation reads it
# there for schedules. Seen: with a loader that can resume within an epoch (`state_dict`,
# `load_state_dict`), a training resumed after the second of four batches goes on with batches 2
# and 3. If the property was read, it trains on 0 and 1 again, without a warning.
#
# Fails if this version's behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 lightning==2.6.6 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - <<'PYTHON'
import logging
import warnings

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Loader(torch.utils.data.DataLoader):
    """Four batches, 0 to 3; goes on where its state says."""

    first = done = 0

    def __iter__(self):
        first, self.first = self.first, 0
        for number, batch in enumerate(super().__iter__()):
            if number >= first:
                self.done = number + 1
                yield batch

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.first = state["done"] % len(self)


class Module(L.LightningModule):
    def __init__(self, asks):
        super().__init__()
        self.layer, self.asks, self.batches = torch.nn.Linear(1, 1), asks, []

    def training_step(self, batch, index):
        self.batches.append(int(batch))
        return self.layer(batch).sum()

    def configure_optimizers(self):
        if self.asks:
            self.trainer.estimated_stepping_batches
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader():
    return Loader(torch.arange(4.0)[:, None], batch_size=1)


def trainer(folder):
    save = ModelCheckpoint(folder, every_n_train_steps=6, filename="{step}")
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(max_epochs=2, accelerator="cpu", callbacks=[save], **quiet)


seen = {}
for asks in (False, True):
    trainer(f"saved-{asks}").fit(Module(False), loader())
    resumed = Module(asks)
    trainer(f"again-{asks}").fit(resumed, loader(), ckpt_path=f"saved-{asks}/step=6.ckpt")
    seen[asks] = resumed.batches
print("batches after the resume, by whether the property was read:", seen)
assert seen == {False: [2, 3], True: [0, 1]}, seen
PYTHON
