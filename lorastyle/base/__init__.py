"""The frozen base model: loading, what it sees of images and captions, and how ours was made."""
