"""Recipes: one file each, with what differs from the defaults of `vargfacenet.train.config.Config`."""
