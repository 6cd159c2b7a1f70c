"""Images from a base model with stored adapters."""
