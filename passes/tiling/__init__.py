"""Choice of tiles, without IR: sizes, loop orders, views of tensors."""
