"""Super-resolution of electron micrographs with augmented equivariant attention (Xie, Ding & Ji)."""
