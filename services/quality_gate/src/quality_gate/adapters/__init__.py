"""What the gate touches: sandboxes, trees on disk, the analysers."""
