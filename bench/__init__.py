"""fastinetd, the C reference and the other super-servers, side by side: `python -m bench`."""
