//! The CPU backend: kernels and threads.

