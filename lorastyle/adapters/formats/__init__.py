"""LoRA files in the wild: opened safely, recognised by content, read into `Adapter`."""
