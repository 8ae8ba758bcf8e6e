"""Other tools' config files, translated into this project's settings."""
