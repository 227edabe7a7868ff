"""The commands of `factory` that talk to a running one. One module per subject."""
