"""The CPU kernels, in Numba.  Read `vec`, then `places`, then `vjp`."""
