"""One zygote: its process, and the sockets to it. Nothing of it is for Python."""
