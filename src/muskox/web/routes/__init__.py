"""The routes of the interface, one file per thing that they are about. Each says whom it is for."""
