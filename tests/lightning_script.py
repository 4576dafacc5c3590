"""A pair trained by Lightning's trainer, ``lightning_script.py DEVICES``; prints what is logged."""

import json
import sys

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

import pyro_idvae as idvae
from pyro_idvae.lightning import LightningSVI


def main(devices):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
    x = vae.likelihood.condition(torch.randn(200, 2)).sample()
    module = LightningSVI(
        vae.model,
        vae.guide,
        x[:20],
        num_rows=160,
        objective="free_bits",
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    )
    trainer = lightning.Trainer(
        max_epochs=4,
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    held_out = DataLoader(TensorDataset(x[160:]), 20)
    (before,) = trainer.validate(module, held_out, verbose=False)
    trainer.fit(module, DataLoader(TensorDataset(x[:160]), 20, shuffle=True), held_out)
    if trainer.is_global_zero:
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        print(json.dumps({"before": before, "logged": logged, "steps": trainer.global_step}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
