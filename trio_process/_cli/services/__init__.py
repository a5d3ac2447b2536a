"""The commands of services: `up`, `down`, `ps`, `logs`, `start`, `stop`, `restart`, `scale`, `reload`, `attach`, `ui`."""
