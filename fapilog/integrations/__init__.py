"""One module, one framework: imported and used by the application, never by the rest of the package."""
