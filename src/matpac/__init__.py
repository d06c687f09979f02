"""MATPAC and MATPAC++: self-supervised learning of audio representations."""
