"""Files: images in and out, and files that appear whole or not at all."""
