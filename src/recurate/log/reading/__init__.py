"""Reading of slates and picks from files of many forms."""
